---@meta
-- luacheck: ignore
-- tidelock/types.lua: what editors that know LuaCATS complete and check: ctx, maps, modules, tidelock.*. Nothing loads this file; put it
-- into the library of your language server (make install: share/tidelock/lua).

---@alias tidelock.key string|number|boolean|(string|number|boolean)[] text, a finite number, a boolean, or a list of 1 to 16 of those
---@alias tidelock.value string|number|boolean|table text, a number, a boolean, a list, a map with text keys
---@alias tidelock.opts { limit?: integer, reverse?: boolean, after?: tidelock.key }

---An ordered map of the mount. Rows are copied whole: put back what you changed.
---@class tidelock.map
local map = {}
---@param key tidelock.key
---@return tidelock.value? copy nil: there is no such row
function map:get(key) end
---@param key tidelock.key
---@return boolean
function map:has(key) end
---@param key tidelock.key
---@param value tidelock.value
---@param opts? { ttl?: integer } ms until the row is not there any more
function map:put(key, value, opts) end
---@param key tidelock.key
---@return boolean there_was_one
function map:del(key) end
---@param key tidelock.key
---@return tidelock.value? old the row, which is removed
function map:take(key) end
---@param key tidelock.key
---@param n number
---@return number new a row that is missing counts as 0
function map:add(key, n) end
---@param key tidelock.key
---@param f fun(copy?: tidelock.value): tidelock.value? gives the new row; nil removes it
---@return tidelock.value? new
function map:update(key, f) end
---@param prefix? tidelock.key
---@return integer count
function map:clear(prefix) end
---@param prefix? tidelock.key
---@return integer count
function map:len(prefix) end
---@param prefix? tidelock.key
---@return tidelock.key? key, tidelock.value? value
function map:first(prefix) end
---@param prefix? tidelock.key
---@return tidelock.key? key, tidelock.value? value
function map:last(prefix) end
---@param prefix? tidelock.key a list matches whole leading elements, a text what begins so
---@param opts? tidelock.opts
---@return fun(): tidelock.key, tidelock.value
function map:pairs(prefix, opts) end
---@param lo? tidelock.key
---@param hi? tidelock.key not among them
---@param opts? tidelock.opts
---@return fun(): tidelock.key, tidelock.value
function map:range(lo, hi, opts) end

---What a command, query or timer is given. Its functions are called with a dot; it ends with the entry.
---@class tidelock.ctx
---@field index integer of the entry; of the state that a query reads
---@field term integer
---@field now integer cluster time, ms since 1970
---@field session string? of the client that called
---@field client integer? in a workload: which simulated client
---@field db table<string, tidelock.map>
local ctx = {}
---A number greater than every earlier one of this mount.
---@return integer
function ctx.id() end
---Throws: nothing happened.
---@param code string
---@param message? string
---@param data? tidelock.value
function ctx.fail(code, message, data) end
---@param name string "mount.command": in the same entry
function ctx.call(name, ...) end
---@param format string
function ctx.log(format, ...) end
---The same on every replica, as math.random.
---@param m? integer
---@param n? integer
---@return number
function ctx.random(m, n) end
---@return table map an empty map value; {} is a list
function ctx.map() end
---@param topic string
---@param key? tidelock.key
---@param data? tidelock.value
function ctx.emit(topic, key, data) end
---@param time integer ms since 1970
---@param timer string a name of the module's timers
---@return integer id
function ctx.at(time, timer, ...) end
---@param ms integer
---@param timer string
---@return integer id
function ctx.after(ms, timer, ...) end
---@param id? integer
---@return boolean pending
function ctx.cancel(id) end

---@alias tidelock.call fun(ctx: tidelock.ctx, ...): any
---@alias tidelock.function tidelock.call|{ run: tidelock.call, args?: string, help?: string, session?: boolean }

---@class tidelock.module
---@field name string
---@field version integer grows with each deploy
---@field state? table<string, 'map'>
---@field init? fun(ctx: tidelock.ctx)
---@field commands? table<string, tidelock.function>
---@field queries? table<string, tidelock.function>
---@field timers? table<string, tidelock.call>
---@field on_expire? fun(ctx: tidelock.ctx, map: string, key: tidelock.key, value: tidelock.value)
---@field on_session_end? fun(ctx: tidelock.ctx, session: string)
---@field apply? fun(ctx: tidelock.ctx, name: string, ...): any
---@field query? fun(ctx: tidelock.ctx, name: string, ...): any
---@field workload? fun(ctx: tidelock.ctx): table? { name, args... }, or nil to pause
---@field invariant? fun(ctx: tidelock.ctx): boolean?, string?

---A view that a snapshot format writes.
---@class tidelock.view
---@field index integer
local view = {}
---@return fun(): string, string, tidelock.map mount, name, map
function view:maps() end

---@class tidelock.format
---@field name string
---@field version integer
---@field write fun(out: { write: fun(self, ...: string) }, view: tidelock.view)
---@field read fun(inp: table, ctx: table): true?, string?

---@class tidelock.err
---@field code string
---@field message string
---@field data? tidelock.value
---@field definite? boolean it certainly had no effect
