/* A disk that fails when a test says so: preloaded into a process, it stands between SQLite and the C library.
 *
 * CAPOMASTRO_SHIM_FILE is the database. Only calls on it, and on the -wal, -shm and -answers files beside it, are touched.
 * CAPOMASTRO_SHIM_CONTROL is a file of 64-bit numbers that the test writes and reads while the process runs (`enum slot`).
 * CAPOMASTRO_SHIM_LOG, if it is set, is where all writes, truncations and syncs are recorded in order: four 64-bit numbers
 * (kind, file, offset, length) and, for a write, the data.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum slot { OPS, FILES, ACTION, AT, TIMES, ERRNO, CHANCE, SEED, SEEN, FIRED, SLOTS };
enum op { WRITE = 1, SYNC = 2, TRUNCATE = 4 };
enum file { NONE = 0, DATABASE = 1, WAL = 2, SHM = 4, ANSWERS = 8 };
enum action { PASS, FAIL, HALF, DO_AND_FAIL, KILL };
enum record { R_WRITE = 1, R_TRUNCATE = 2, R_SYNC = 3, R_SYNC_FAILED = 4 };

static volatile uint64_t *control;
static char database[4096];
static size_t database_len;
static int log_fd = -1;
static int fail_next_write;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);
static int (*real_fsync)(int);
static int (*real_fdatasync)(int);
static int (*real_ftruncate)(int, off_t);

/* Other libraries write before the constructor of this one has run, so each call makes sure. */
static void set_up(void)
{
    static int done;
    if (done)
        return;
    real_write = dlsym(RTLD_NEXT, "write");
    real_pwrite = dlsym(RTLD_NEXT, "pwrite64");
    real_fsync = dlsym(RTLD_NEXT, "fsync");
    real_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
    real_ftruncate = dlsym(RTLD_NEXT, "ftruncate64");
    const char *file = getenv("CAPOMASTRO_SHIM_FILE");
    const char *name = getenv("CAPOMASTRO_SHIM_CONTROL");
    const char *log = getenv("CAPOMASTRO_SHIM_LOG");
    if (file && strlen(file) < sizeof database) {
        strcpy(database, file);
        database_len = strlen(file);
    }
    if (name) {
        int fd = open(name, O_RDWR | O_CLOEXEC);
        void *at = fd < 0 ? MAP_FAILED
                          : mmap(NULL, SLOTS * 8, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (at == MAP_FAILED)
            abort();
        control = at;
        close(fd);
    }
    if (log)
        log_fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    done = 1;
}

__attribute__((constructor)) static void begin(void)
{
    pthread_mutex_lock(&lock);
    set_up();
    pthread_mutex_unlock(&lock);
}

static enum file file_of(int fd)
{
    char name[64] = "/proc/self/fd/", digits[16], path[4352];
    int n = 0, v = fd;
    if (!database_len || fd < 0)
        return NONE;
    do
        digits[n++] = (char)('0' + v % 10);
    while ((v /= 10));
    char *at = name + strlen(name);
    while (n)
        *at++ = digits[--n];
    *at = 0;
    ssize_t len = readlink(name, path, sizeof path - 1);
    if (len < (ssize_t)database_len || memcmp(path, database, database_len))
        return NONE;
    path[len] = 0;
    const char *rest = path + database_len;
    if (!*rest)
        return DATABASE;
    if (!strcmp(rest, "-wal"))
        return WAL;
    if (!strcmp(rest, "-shm"))
        return SHM;
    return strcmp(rest, "-answers") ? NONE : ANSWERS;
}

static uint64_t chance(void)
{
    uint64_t z = control[SEED] += 0x9e3779b97f4a7c15ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return (z ^ (z >> 31)) & 0xffff;
}

/* What is to happen to this call. */
static enum action decide(enum op op, enum file file)
{
    if (!control || control[ACTION] == PASS || !(control[OPS] & op) || !(control[FILES] & file))
        return PASS;
    uint64_t seen = ++control[SEEN];
    int is_at = control[AT] && seen >= control[AT] && seen - control[AT] < control[TIMES];
    if (!is_at && !(control[CHANCE] && chance() < control[CHANCE]))
        return PASS;
    control[FIRED]++;
    return (enum action)control[ACTION];
}

static void record(enum record kind, enum file file, uint64_t offset, const void *data, uint64_t len)
{
    if (log_fd < 0)
        return;
    uint64_t head[4] = {kind, file, offset, len};
    if (real_write(log_fd, head, sizeof head) != (ssize_t)sizeof head)
        abort();
    if (data && len && real_write(log_fd, data, len) != (ssize_t)len)
        abort();
}

static int fails(void)
{
    errno = (int)control[ERRNO];
    return -1;
}

static void dies(void)
{
    kill(getpid(), SIGKILL);
    for (;;)
        pause();
}

/* `offset` is -1 where the file's own place counts. */
static ssize_t put(int fd, const void *data, size_t len, off_t offset)
{
    pthread_mutex_lock(&lock);
    set_up();
    enum file file = file_of(fd);
    enum action action = PASS;
    ssize_t done = -1;
    if (file != NONE && fail_next_write && (control[FILES] & file)) {
        fail_next_write = 0;
        action = FAIL;
    } else if (file != NONE) {
        action = decide(WRITE, file);
    }
    if (action == KILL)
        dies();
    if (action == FAIL) {
        done = fails();
    } else {
        if (action == HALF && len > 1) {
            len /= 2;
            fail_next_write = 1;
        }
        off_t at = file == NONE || offset >= 0 ? offset : lseek(fd, 0, SEEK_CUR);
        done = offset < 0 ? real_write(fd, data, len) : real_pwrite(fd, data, len, offset);
        if (file != NONE && file != SHM && done > 0)
            record(R_WRITE, file, (uint64_t)at, data, (uint64_t)done);
        if (action == DO_AND_FAIL)
            done = fails();
    }
    int e = errno;
    pthread_mutex_unlock(&lock);
    errno = e;
    return done;
}

ssize_t write(int fd, const void *data, size_t len) { return put(fd, data, len, -1); }
ssize_t pwrite(int fd, const void *data, size_t len, off_t at) { return put(fd, data, len, at); }
ssize_t pwrite64(int fd, const void *data, size_t len, off_t at) { return put(fd, data, len, at); }

static int flush(int fd, int is_data_only)
{
    pthread_mutex_lock(&lock);
    set_up();
    enum file file = file_of(fd);
    enum action action = file == NONE ? PASS : decide(SYNC, file);
    int done;
    if (action == KILL)
        dies();
    if (action == FAIL || action == HALF) {
        done = fails();
        record(R_SYNC_FAILED, file, 0, NULL, 0);
    } else {
        /* The machine is not really switched off, so nothing has to wait for the real disk. */
        done = database_len ? 0 : is_data_only ? real_fdatasync(fd) : real_fsync(fd);
        if (file != NONE && done == 0)
            record(R_SYNC, file, 0, NULL, 0);
        if (action == DO_AND_FAIL)
            done = fails();
    }
    int e = errno;
    pthread_mutex_unlock(&lock);
    errno = e;
    return done;
}

int fsync(int fd) { return flush(fd, 0); }
int fdatasync(int fd) { return flush(fd, 1); }

static int cut(int fd, off_t len)
{
    pthread_mutex_lock(&lock);
    set_up();
    enum file file = file_of(fd);
    enum action action = file == NONE ? PASS : decide(TRUNCATE, file);
    int done;
    if (action == KILL)
        dies();
    if (action == FAIL || action == HALF) {
        done = fails();
    } else {
        done = real_ftruncate(fd, len);
        if (file != NONE && file != SHM && done == 0)
            record(R_TRUNCATE, file, (uint64_t)len, NULL, 0);
        if (action == DO_AND_FAIL)
            done = fails();
    }
    int e = errno;
    pthread_mutex_unlock(&lock);
    errno = e;
    return done;
}

int ftruncate(int fd, off_t len) { return cut(fd, len); }
int ftruncate64(int fd, off_t len) { return cut(fd, len); }
