/* A full or read-only disk for tests where no file system may be mounted: for LD_PRELOAD.

   $SMALL_DISK is a folder, and $SMALL_DISK_LIMITS a file with three numbers of 64 bits: the bytes
   and the files that are left there, and whether it is read-only. What our processes write there
   uses them up; a test sets them again. What libraries write by stdio (fwrite) is let through. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>

#define REAL(name) __typeof__(&name) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

static struct limits {
    long long bytes, files, read_only;
} *left;
static char disk[PATH_MAX];
static size_t disk_length;

__attribute__((constructor)) static void begin(void) {
    const char *name = getenv("SMALL_DISK"), *limits = getenv("SMALL_DISK_LIMITS");
    if (!name || !limits || !realpath(name, disk)) return;
    int file = open(limits, O_RDWR | O_CLOEXEC);
    if (file < 0) return;
    /* Mapped, so that a process that has shut itself in can use it as well. */
    void *mapped = mmap(NULL, sizeof *left, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (mapped == MAP_FAILED) return;
    disk_length = strlen(disk);
    left = mapped;
}

static int below(const char *path) {
    return !strncmp(path, disk, disk_length) && (path[disk_length] == '/' || !path[disk_length]);
}

static int holds_file(int file) {
    char link[64], at[PATH_MAX];
    if (!left) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t n = readlink(link, at, sizeof at - 1);
    if (n < 0) return 0;
    at[n] = 0;
    return below(at);
}

static int holds(int folder, const char *path) {
    if (!left || !path) return 0;
    if (path[0] == '/') return below(path);
    if (folder != AT_FDCWD) return holds_file(folder);
    char here[PATH_MAX];
    return getcwd(here, sizeof here) && below(here);
}

static int refuse(int error) {
    errno = error;
    return -1;
}

/* Uses up bytes and files. Returns the error of that; 0: they were there. */
static int take(long long bytes, long long files) {
    if (left->read_only) return EROFS;
    if (bytes && __atomic_sub_fetch(&left->bytes, bytes, __ATOMIC_SEQ_CST) < 0) {
        __atomic_add_fetch(&left->bytes, bytes, __ATOMIC_SEQ_CST);
        return ENOSPC;
    }
    if (files && __atomic_sub_fetch(&left->files, files, __ATOMIC_SEQ_CST) < 0) {
        __atomic_add_fetch(&left->files, files, __ATOMIC_SEQ_CST);
        return ENOSPC;
    }
    return 0;
}

#define WRITE(name, type, bytes, signature, arguments)      \
    type name signature {                                    \
        REAL(name);                                          \
        int error = holds_file(file) ? take(bytes, 0) : 0;   \
        return error ? refuse(error) : real arguments;       \
    }

static long long all(const struct iovec *parts, int n) {
    long long sum = 0;
    while (n-- > 0) sum += parts[n].iov_len;
    return sum;
}

WRITE(write, ssize_t, (long long)size, (int file, const void *from, size_t size),
      (file, from, size))
WRITE(pwrite, ssize_t, (long long)size, (int file, const void *from, size_t size, off_t at),
      (file, from, size, at))
WRITE(pwrite64, ssize_t, (long long)size, (int file, const void *from, size_t size, off64_t at),
      (file, from, size, at))
WRITE(writev, ssize_t, all(parts, n), (int file, const struct iovec *parts, int n),
      (file, parts, n))
WRITE(copy_file_range, ssize_t, (long long)size,
      (int from, off64_t *at, int file, off64_t *to, size_t size, unsigned flags),
      (from, at, file, to, size, flags))
WRITE(sendfile, ssize_t, (long long)size, (int file, int from, off_t *at, size_t size),
      (file, from, at, size))
WRITE(sendfile64, ssize_t, (long long)size, (int file, int from, off64_t *at, size_t size),
      (file, from, at, size))

static int opening(int folder, const char *path, int flags) {
    struct stat info;
    if (!(flags & (O_CREAT | O_WRONLY | O_RDWR | O_TRUNC)) || !holds(folder, path)) return 0;
    int before = errno;
    int makes = (flags & O_CREAT) && fstatat(folder, path, &info, 0);
    errno = before;
    return take(0, makes);
}

#define OPEN(name, folder, signature, arguments)             \
    int name signature {                                     \
        REAL(name);                                          \
        mode_t mode = 0;                                     \
        int error = opening(folder, path, flags);            \
        if (flags & (O_CREAT | __O_TMPFILE)) {               \
            va_list rest;                                    \
            va_start(rest, flags);                           \
            mode = va_arg(rest, mode_t);                     \
            va_end(rest);                                    \
        }                                                    \
        return error ? refuse(error) : real arguments;       \
    }

OPEN(open, AT_FDCWD, (const char *path, int flags, ...), (path, flags, mode))
OPEN(open64, AT_FDCWD, (const char *path, int flags, ...), (path, flags, mode))
OPEN(openat, folder, (int folder, const char *path, int flags, ...), (folder, path, flags, mode))
OPEN(openat64, folder, (int folder, const char *path, int flags, ...), (folder, path, flags, mode))

#define CHANGE(name, folder, files, signature, arguments)            \
    int name signature {                                             \
        REAL(name);                                                  \
        int error = holds(folder, path) ? take(0, files) : 0;        \
        return error ? refuse(error) : real arguments;               \
    }

CHANGE(mkdir, AT_FDCWD, 1, (const char *path, mode_t mode), (path, mode))
CHANGE(mkdirat, folder, 1, (int folder, const char *path, mode_t mode), (folder, path, mode))
CHANGE(link, AT_FDCWD, 0, (const char *from, const char *path), (from, path))
CHANGE(symlink, AT_FDCWD, 1, (const char *from, const char *path), (from, path))
CHANGE(unlink, AT_FDCWD, 0, (const char *path), (path))
CHANGE(unlinkat, folder, 0, (int folder, const char *path, int flags), (folder, path, flags))
CHANGE(rmdir, AT_FDCWD, 0, (const char *path), (path))
CHANGE(rename, AT_FDCWD, 0, (const char *from, const char *path), (from, path))

#define STAT(name, type, what, ours)                                          \
    int name(what, struct type *into) {                                       \
        REAL(name);                                                           \
        int code = real(asked, into);                                         \
        if (!code && ours) into->f_bfree = into->f_bavail = left->bytes / into->f_frsize; \
        return code;                                                          \
    }

STAT(statvfs, statvfs, const char *asked, holds(AT_FDCWD, asked))
STAT(statvfs64, statvfs64, const char *asked, holds(AT_FDCWD, asked))
STAT(fstatvfs, statvfs, int asked, holds_file(asked))
STAT(fstatvfs64, statvfs64, int asked, holds_file(asked))
