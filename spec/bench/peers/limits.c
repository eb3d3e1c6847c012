/* spec/bench/peers/limits.c - what the machine allows: one synced append, one round trip over loopback.
 *
 *   limits append DIR COUNT WRITERS     4 KiB overwrites of a prewritten file, O_DIRECT|O_DSYNC, as
 *                                       in a log; WRITERS processes at once, a file each
 *   limits trip COUNT CORES             64 bytes there and back between two processes that wait in epoll, on one
 *                                       core or on two: waking an idle core costs more
 *
 * Prints one JSON object. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { BLOCK = 4096, CHUNK = 1 << 20, TRIP = 64, COUNT_MAX = 1 << 20, WRITERS_MAX = 16 };

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void must(int good, const char *what)
{
    if (!good) {
        perror(what);
        exit(1);
    }
}

static int by_value(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left;
    uint64_t b = *(const uint64_t *)right;
    return (a > b) - (a < b);
}

static void print_result(uint64_t *spent_ns, size_t count)
{
    qsort(spent_ns, count, sizeof *spent_ns, by_value);
    printf("{\"p50_us\":%.1f,\"p99_us\":%.1f}\n", (double)spent_ns[count / 2] / 1e3,
           (double)spent_ns[count * 99 / 100] / 1e3);
}

static void *shared(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    must(memory != MAP_FAILED, "mmap");
    return memory;
}

/* Writes `size` bytes, so that the overwrites later change no metadata. */
static void prewrite(const char *path, size_t size, void *bytes)
{
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    must(file >= 0, path);
    for (size_t at = 0; at < size; at += CHUNK)
        must(write(file, bytes, CHUNK) == CHUNK, "write");
    must(fsync(file) == 0 && close(file) == 0, "fsync");
}

static void append_in_child(const char *dir, int writer, size_t count, uint64_t *spent_ns, volatile int *ready,
                            int writers)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/limits.%d.%d", dir, (int)getppid(), writer);
    void *bytes = NULL;
    must(posix_memalign(&bytes, BLOCK, CHUNK) == 0, "memory");
    memset(bytes, 'x', CHUNK);
    prewrite(path, count * BLOCK, bytes);
    int file = open(path, O_WRONLY | O_DIRECT | O_DSYNC);
    must(file >= 0, "O_DIRECT");
    (void)__sync_fetch_and_add(ready, 1);
    while (*ready < writers)
        usleep(100);
    for (size_t i = 0; i < count; i++) {
        uint64_t start = now_ns();
        must(pwrite(file, bytes, BLOCK, (off_t)(i * BLOCK)) == BLOCK, "pwrite");
        spent_ns[i] = now_ns() - start;
    }
    unlink(path);
}

static void measure_append(const char *dir, size_t count, int writers)
{
    uint64_t *spent_ns = shared((size_t)writers * count * sizeof *spent_ns);
    volatile int *ready = shared(sizeof *ready);
    for (int i = 0; i < writers; i++)
        if (fork() == 0) {
            append_in_child(dir, i, count, spent_ns + (size_t)i * count, ready, writers);
            _exit(0);
        }
    int status = 0;
    int good = 1;
    for (int i = 0; i < writers; i++)
        good = wait(&status) > 0 && status == 0 && good;
    if (!good)
        exit(1);
    print_result(spent_ns, (size_t)writers * count);
}

/* Stays on the first or second of the cores that we may use; on the first if there is but one. */
static void pin(int place)
{
    cpu_set_t allowed;
    cpu_set_t one;
    must(sched_getaffinity(0, sizeof allowed, &allowed) == 0, "affinity");
    if (place >= CPU_COUNT(&allowed))
        place = 0;
    for (size_t core = 0; core < CPU_SETSIZE; core++)
        if (CPU_ISSET(core, &allowed) && place-- == 0) {
            CPU_ZERO(&one);
            CPU_SET(core, &one);
            must(sched_setaffinity(0, sizeof one, &one) == 0, "affinity");
        }
}

static int wait_and_read(int epoll, int fd, char *bytes)
{
    struct epoll_event event;
    (void)epoll_wait(epoll, &event, 1, -1);
    return read(fd, bytes, TRIP) == TRIP;
}

static int watch(int fd)
{
    int one = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct epoll_event event = {.events = EPOLLIN};
    int epoll = epoll_create1(0);
    must(epoll >= 0 && epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0, "epoll");
    return epoll;
}

static void measure_trip(size_t count, int cores)
{
    char bytes[TRIP] = {0};
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    must(bind(listener, (struct sockaddr *)&address, size) == 0 && listen(listener, 1) == 0 &&
             getsockname(listener, (struct sockaddr *)&address, &size) == 0,
         "listen");
    if (fork() == 0) {
        pin(cores - 1);
        int fd = accept(listener, NULL, NULL);
        int epoll = watch(fd);
        while (wait_and_read(epoll, fd, bytes) && write(fd, bytes, TRIP) == TRIP)
            ;
        _exit(0);
    }
    pin(0);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    must(connect(fd, (struct sockaddr *)&address, size) == 0, "connect");
    int epoll = watch(fd);
    uint64_t *spent_ns = shared(count * sizeof *spent_ns);
    for (size_t i = 0; i < count; i++) {
        uint64_t start = now_ns();
        must(write(fd, bytes, TRIP) == TRIP && wait_and_read(epoll, fd, bytes), "trip");
        spent_ns[i] = now_ns() - start;
    }
    close(fd);
    wait(NULL);
    print_result(spent_ns, count);
}

int main(int count, char **words)
{
    int append = count == 5 && strcmp(words[1], "append") == 0;
    int trip = count == 4 && strcmp(words[1], "trip") == 0;
    long times = append ? atol(words[3]) : trip ? atol(words[2]) : 0;
    int width = append ? atoi(words[4]) : trip ? atoi(words[3]) : 0; /* writers, or cores */
    if (times < 1 || times > COUNT_MAX || width < 1 || width > WRITERS_MAX) {
        fprintf(stderr, "limits append DIR COUNT WRITERS | limits trip COUNT CORES\n");
        return 2;
    }
    if (append)
        measure_append(words[2], (size_t)times, width);
    else
        measure_trip((size_t)times, width);
    return 0;
}
