/* cli/bind_sys.c - tidelock.sys: processes, clocks, sockets. Functions return nil, why on failure. See cli/bind.h. */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <lauxlib.h>
#include <lua.h>

#include "cli/bind.h"

extern char **environ;

static int fail(lua_State *L, const char *what)
{
    lua_pushnil(L);
    lua_pushfstring(L, "%s: %s", what, strerror(errno));
    return 2;
}

/* now() -> seconds of a clock that never jumps */
static int sys_now(lua_State *L)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    lua_pushnumber(L, (double)now.tv_sec + (double)now.tv_nsec / 1e9);
    return 1;
}

/* wall() -> seconds since the Unix epoch, as this machine has it */
static int sys_wall(lua_State *L)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    lua_pushnumber(L, (double)now.tv_sec + (double)now.tv_nsec / 1e9);
    return 1;
}

/* sleep(seconds) */
static int sys_sleep(lua_State *L)
{
    double seconds = luaL_checknumber(L, 1);
    struct timespec wait = {.tv_sec = (time_t)seconds};
    wait.tv_nsec = (long)((seconds - (double)wait.tv_sec) * 1e9);
    (void)nanosleep(&wait, NULL);
    return 0;
}

/* Names the process that spawned this one. */
static const char parent_variable[] = "TIDELOCK_PARENT";

/* spawn({ program, args... }, log file or nil) -> pid */
static int sys_spawn(lua_State *L)
{
    char *words[128];
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 2);
    const char *log = luaL_optstring(L, 2, NULL);
    size_t count = lua_objlen(L, 1);
    luaL_argcheck(L, count >= 1 && count < 127, 1, "1 to 126 words");
    for (size_t i = 0; i < count; i++) {
        lua_rawgeti(L, 1, (int)i + 1);
        words[i] = (char *)(uintptr_t)luaL_checkstring(L, -1);
    }
    words[count] = NULL;
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    if (log != NULL) {
        posix_spawn_file_actions_addopen(&actions, 1, log, O_WRONLY | O_CREAT | O_APPEND, 0640);
        posix_spawn_file_actions_adddup2(&actions, 1, 2);
    }
    /* A group of its own: Ctrl-C at the terminal is for us, who end our nodes in order. */
    posix_spawnattr_t attributes;
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
    pid_t pid = 0;
    char self[24];
    snprintf(self, sizeof self, "%ld", (long)getpid());
    (void)setenv(parent_variable, self, 1);
    int error = posix_spawnp(&pid, words[0], &actions, &attributes, words, environ);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    if (error != 0) {
        errno = error;
        return fail(L, words[0]);
    }
    lua_pushinteger(L, pid);
    return 1;
}

/* end_with_parent(): if spawn started this process, it gets TERM when the process that did is gone, however that ended */
static int sys_end_with_parent(lua_State *L)
{
    (void)L;
    const char *parent = getenv(parent_variable);
    if (parent != NULL && strtol(parent, NULL, 10) == (long)getppid())
        (void)prctl(PR_SET_PDEATHSIG, SIGTERM);
    return 0;
}

/* kill(pid, "TERM" | "KILL" | "STOP" | "CONT" | "INT") */
static int sys_kill(lua_State *L)
{
    static const char *const names[] = {"TERM", "KILL", "STOP", "CONT", "INT", NULL};
    static const int numbers[] = {SIGTERM, SIGKILL, SIGSTOP, SIGCONT, SIGINT};
    pid_t pid = (pid_t)luaL_checkinteger(L, 1);
    luaL_argcheck(L, pid > 1, 1, "a process id");
    if (kill(pid, numbers[luaL_checkoption(L, 2, "TERM", names)]) != 0)
        return fail(L, "kill");
    lua_pushboolean(L, 1);
    return 1;
}

/* wait(pid, block) -> exit status, or 128 + signal; nil while it runs */
static int sys_wait(lua_State *L)
{
    int status = 0;
    pid_t pid = (pid_t)luaL_checkinteger(L, 1);
    pid_t done = waitpid(pid, &status, lua_toboolean(L, 2) ? 0 : WNOHANG);
    if (done != pid)
        return 0;
    lua_pushinteger(L, WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
    return 1;
}

/* tmpdir() -> a new directory */
static int sys_tmpdir(lua_State *L)
{
    const char *base = getenv("TMPDIR");
    lua_pushfstring(L, "%s/tidelock.XXXXXX", base != NULL ? base : P_tmpdir);
    char path[1024];
    snprintf(path, sizeof path, "%s", lua_tostring(L, -1));
    if (mkdtemp(path) == NULL)
        return fail(L, path);
    lua_pushstring(L, path);
    return 1;
}

static int sys_mkdir(lua_State *L)
{
    if (mkdir(luaL_checkstring(L, 1), 0750) != 0 && errno != EEXIST)
        return fail(L, lua_tostring(L, 1));
    lua_pushboolean(L, 1);
    return 1;
}

/* Adds the plain files below `path`, which is at the top, to the list at 2, at most `depth` directories down [-1, +0]. */
static bool add_files(lua_State *L, int depth)
{
    const char *path = lua_tostring(L, -1);
    DIR *directory = opendir(path);
    if (directory == NULL)
        return false;
    luaL_checkstack(L, 8, "too deep");
    for (struct dirent *entry = readdir(directory); entry != NULL; entry = readdir(directory)) {
        struct stat found;
        if (entry->d_name[0] == '.')
            continue;
        lua_pushfstring(L, "%s/%s", path, entry->d_name);
        if (lstat(lua_tostring(L, -1), &found) == 0 && S_ISREG(found.st_mode)) {
            lua_rawseti(L, 2, (int)lua_objlen(L, 2) + 1);
            continue;
        }
        if (!S_ISDIR(found.st_mode) || depth == 0 || !add_files(L, depth - 1))
            lua_pop(L, 1);
    }
    closedir(directory);
    lua_pop(L, 1);
    return true;
}

/* files(directory) -> the paths of all files in it and below that do not begin with a dot, in no order; or nil, why */
static int sys_files(lua_State *L)
{
    enum { DEEP = 16 };
    luaL_checkstring(L, 1);
    lua_settop(L, 1);
    lua_newtable(L);
    lua_pushvalue(L, 1);
    if (!add_files(L, DEEP))
        return fail(L, lua_tostring(L, 1));
    return 1;
}

/* exe() -> the path of this program */
static int sys_exe(lua_State *L)
{
    char path[4096];
    ssize_t size = readlink("/proc/self/exe", path, sizeof path);
    if (size <= 0)
        return fail(L, "/proc/self/exe");
    lua_pushlstring(L, path, (size_t)size);
    return 1;
}

static int sys_isatty(lua_State *L)
{
    lua_pushboolean(L, isatty((int)luaL_checkinteger(L, 1)));
    return 1;
}

/* Below those that the kernel gives to connections that are dialled: between the look and its use none of those takes it. */
enum { PORT_FIRST = 10240, PORTS = 32768 - PORT_FIRST, PORT_TRIES = 1000 };

/* free_port() -> a port of the loopback that nobody listens on now; drawn, so that two programs that look do not find the same */
static int sys_free_port(lua_State *L)
{
    bool found = false;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    for (int i = 0; i < PORT_TRIES && !found; i++) {
        uint16_t drawn = 0;
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0 || getrandom(&drawn, sizeof drawn, 0) != sizeof drawn) {
            if (fd >= 0)
                close(fd);
            return fail(L, "port");
        }
        address.sin_port = htons((uint16_t)(PORT_FIRST + drawn % PORTS));
        found = bind(fd, (struct sockaddr *)&address, sizeof address) == 0;
        close(fd);
    }
    if (!found)
        return fail(L, "port");
    lua_pushinteger(L, ntohs(address.sin_port));
    return 1;
}

static volatile sig_atomic_t interrupted;

static void on_interrupt(int number)
{
    interrupted = number;
}

static void handle(const struct sigaction *action)
{
    sigaction(SIGINT, action, NULL);
    sigaction(SIGTERM, action, NULL);
    struct sigaction before;
    if (sigaction(SIGHUP, NULL, &before) == 0 && before.sa_handler != SIG_IGN) /* else: under nohup */
        sigaction(SIGHUP, action, NULL);
    sigaction(SIGQUIT, action, NULL);
}

/* on_interrupt(): from now on INT, TERM, QUIT and HUP only set what interrupted() tells */
static int sys_on_interrupt(lua_State *L)
{
    (void)L;
    const struct sigaction action = {.sa_handler = on_interrupt};
    handle(&action);
    return 0;
}

static lua_State *stoppable;

static void stop_hook(lua_State *L, lua_Debug *unused)
{
    (void)unused;
    lua_sethook(L, NULL, 0, 0);
    luaL_error(L, "interrupted");
}

static void on_stop(int number)
{
    interrupted = number;
    lua_sethook(stoppable, stop_hook, LUA_MASKCALL | LUA_MASKRET | LUA_MASKCOUNT, 1);
}

/* stop_on_signal(): from now on the first of those raises an error where the script is, the second ends the process */
static int sys_stop_on_signal(lua_State *L)
{
    const struct sigaction action = {.sa_handler = on_stop, .sa_flags = (int)SA_RESETHAND};
    stoppable = L;
    handle(&action);
    return 0;
}

static int sys_interrupted(lua_State *L)
{
    lua_pushboolean(L, interrupted != 0);
    return 1;
}

/* --- sockets: an fd in a userdata ------------------------------------------------------------------------------------------------ */

static const char socket_type[] = "tidelock.socket";

static int *check_socket(lua_State *L)
{
    int *fd = luaL_checkudata(L, 1, socket_type);
    luaL_argcheck(L, *fd >= 0, 1, "the socket is closed");
    return fd;
}

static int *new_socket(lua_State *L, int fd)
{
    int *box = lua_newuserdata(L, sizeof *box);
    *box = fd;
    luaL_getmetatable(L, socket_type);
    lua_setmetatable(L, -2);
    return box;
}

static int wait_for(int fd, short what, double seconds)
{
    struct pollfd poll_fd = {.fd = fd, .events = what};
    int ms = seconds < 0 ? 0 : seconds > 3600 ? 3600000 : (int)(seconds * 1000) + 1;
    return poll(&poll_fd, 1, ms);
}

/* connect(host, port, seconds) -> socket */
static int sys_connect(lua_State *L)
{
    const char *host = luaL_checkstring(L, 1);
    char service[16];
    snprintf(service, sizeof service, "%d", (int)luaL_checkinteger(L, 2));
    double seconds = luaL_checknumber(L, 3);
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo *list = NULL;
    int error = getaddrinfo(host, service, &hints, &list);
    if (error != 0) {
        lua_pushnil(L);
        lua_pushfstring(L, "%s: %s", host, gai_strerror(error));
        return 2;
    }
    int *fd = new_socket(L, socket(list->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    int result = connect(*fd, list->ai_addr, list->ai_addrlen);
    freeaddrinfo(list);
    int problem = result != 0 ? errno : 0;
    socklen_t size = sizeof problem;
    if (problem == EINPROGRESS) {
        problem = ETIMEDOUT;
        if (wait_for(*fd, POLLOUT, seconds) > 0)
            getsockopt(*fd, SOL_SOCKET, SO_ERROR, &problem, &size);
    }
    if (problem != 0) {
        errno = problem;
        return fail(L, "connect");
    }
    int one = 1;
    (void)setsockopt(*fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return 1;
}

/* socket:send(bytes, seconds) -> true */
static int socket_send(lua_State *L)
{
    int *fd = check_socket(L);
    size_t size = 0;
    const char *bytes = luaL_checklstring(L, 2, &size);
    double seconds = luaL_optnumber(L, 3, 30);
    while (size > 0) {
        ssize_t put = send(*fd, bytes, size, MSG_NOSIGNAL);
        if (put < 0 && errno == EAGAIN && wait_for(*fd, POLLOUT, seconds) > 0)
            continue;
        if (put < 0)
            return fail(L, "send");
        bytes += put;
        size -= (size_t)put;
    }
    lua_pushboolean(L, 1);
    return 1;
}

/* socket:finish(): no more will be sent; answers can still be received */
static int socket_finish(lua_State *L)
{
    (void)shutdown(*check_socket(L), SHUT_WR);
    return 0;
}

/* socket:receive(seconds) -> bytes; "" when closed by the other side; nil, "timeout" */
static int socket_receive(lua_State *L)
{
    static __thread char bytes[65536];
    int *fd = check_socket(L);
    double seconds = luaL_checknumber(L, 2);
    for (;;) {
        ssize_t got = recv(*fd, bytes, sizeof bytes, 0);
        if (got >= 0) {
            lua_pushlstring(L, bytes, (size_t)got);
            return 1;
        }
        if (errno != EAGAIN && errno != EINTR)
            return fail(L, "receive");
        if (errno == EAGAIN && wait_for(*fd, POLLIN, seconds) <= 0) {
            lua_pushnil(L);
            lua_pushliteral(L, "timeout");
            return 2;
        }
    }
}

/* socket:put(bytes, from) -> how many of the bytes from there on could be sent at once, 0 too; nil, why */
static int socket_put(lua_State *L)
{
    int *fd = check_socket(L);
    size_t size = 0;
    const char *bytes = luaL_checklstring(L, 2, &size);
    size_t from = (size_t)luaL_checkinteger(L, 3) - 1;
    luaL_argcheck(L, from <= size, 3, "beyond the end");
    ssize_t put = send(*fd, bytes + from, size - from, MSG_NOSIGNAL);
    if (put < 0 && errno != EAGAIN && errno != EINTR)
        return fail(L, "send");
    lua_pushinteger(L, put < 0 ? 0 : put);
    return 1;
}

/* Adds the sockets of the list at `at`; -> how many there are then. */
static nfds_t add_polled(lua_State *L, int at, short events, struct pollfd *list, nfds_t count, nfds_t max)
{
    for (int i = 1; lua_istable(L, at) && count < max; i++) {
        lua_rawgeti(L, at, i);
        if (lua_isnil(L, -1)) {
            lua_pop(L, 1);
            break;
        }
        const int *fd = luaL_checkudata(L, -1, socket_type);
        list[count++] = (struct pollfd){.fd = *fd, .events = events};
        lua_pop(L, 1);
    }
    return count;
}

/* poll({ socket, ... }, seconds, { socket, ... }): until one of the first can be received from or accepted, or one of the others
 * takes bytes; at most 1024 are looked at */
static int sys_poll(lua_State *L)
{
    enum { SOCKETS_MAX = 1024 };
    struct pollfd list[SOCKETS_MAX];
    luaL_checktype(L, 1, LUA_TTABLE);
    double seconds = luaL_checknumber(L, 2);
    nfds_t count = add_polled(L, 1, POLLIN, list, 0, SOCKETS_MAX);
    count = add_polled(L, 3, POLLOUT, list, count, SOCKETS_MAX);
    int ms = seconds < 0 ? 0 : seconds > 3600 ? 3600000 : (int)(seconds * 1000) + 1;
    (void)poll(list, count, ms);
    return 0;
}

/* listen(port) -> a socket that listens on the loopback */
static int sys_listen(lua_State *L)
{
    enum { BACKLOG = 64 };
    int one = 1;
    int *fd = new_socket(L, socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)luaL_checkinteger(L, 1)),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (*fd < 0 || setsockopt(*fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) != 0 ||
        bind(*fd, (struct sockaddr *)&address, sizeof address) != 0 || listen(*fd, BACKLOG) != 0)
        return fail(L, "listen");
    return 1;
}

/* socket:accept() -> a socket; nil: nobody is there */
static int socket_accept(lua_State *L)
{
    int one = 1;
    int fd = accept4(*check_socket(L), NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return 0;
    (void)new_socket(L, fd);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return 1;
}

static int socket_close(lua_State *L)
{
    int *fd = luaL_checkudata(L, 1, socket_type);
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
    return 0;
}

int bind_sys(lua_State *L)
{
    static const luaL_Reg functions[] = {{"now", sys_now},
                                         {"sleep", sys_sleep},
                                         {"wall", sys_wall},
                                         {"spawn", sys_spawn},
                                         {"kill", sys_kill},
                                         {"wait", sys_wait},
                                         {"tmpdir", sys_tmpdir},
                                         {"mkdir", sys_mkdir},
                                         {"files", sys_files},
                                         {"exe", sys_exe},
                                         {"isatty", sys_isatty},
                                         {"free_port", sys_free_port},
                                         {"connect", sys_connect},
                                         {"listen", sys_listen},
                                         {"poll", sys_poll},
                                         {"end_with_parent", sys_end_with_parent},
                                         {"on_interrupt", sys_on_interrupt},
                                         {"stop_on_signal", sys_stop_on_signal},
                                         {"interrupted", sys_interrupted},
                                         {NULL, NULL}};
    static const luaL_Reg methods[] = {
        {"send", socket_send},     {"receive", socket_receive}, {"put", socket_put},    {"accept", socket_accept},
        {"finish", socket_finish}, {"close", socket_close},     {"__gc", socket_close}, {NULL, NULL}};
    luaL_newmetatable(L, socket_type);
    lua_pushvalue(L, -1);
    lua_setfield(L, -2, "__index");
    luaL_register(L, NULL, methods);
    lua_pop(L, 1);
    lua_newtable(L);
    luaL_register(L, NULL, functions);
    return 1;
}
