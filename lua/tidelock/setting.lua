-- tidelock/setting.lua: how the script that runs was started: what --mode, --seed and --nodes say, and how to start over.
--
-- Plain code (the command line itself, `tidelock dev`) finds this empty. cli/run.lua fills it; a script on virtual time gets another
-- one, from lua/tidelock/prelude.lua.
return {}
