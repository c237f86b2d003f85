/* A disk that fails when told to, and that forgets what was not synced: preloaded into the process under test.
 *
 *   FAULTY_DISK_ROOT     files below this directory are on the disk
 *   FAULTY_DISK_SHADOW   directory of the durable images: what each file would be after a loss of power
 *   FAULTY_DISK_CONTROL  a file of one byte: '.' works, 's' syncs fail, 'w' writes fail, 'f' the disk is full
 *
 * A write makes its range dirty. A sync that works copies dirty ranges to the file's durable image; one that fails
 * forgets which they were, as the kernel does: a later sync succeeds without them. The image is named by an
 * extended attribute, so that it follows its inode and no other. Names of files are durable at once. Writes to
 * mapped memory are not seen.
 *
 * Not here: the loss of power itself (faultydisk.py). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/xattr.h>
#include <unistd.h>

#define ATTRIBUTE "user.shadow"
#define RANGES_MAX 4096
#define FILES_MAX 4096

struct range { off_t from, to; };
struct file { dev_t device; ino_t inode; int used; struct range ranges[RANGES_MAX]; };

static struct file *files[FILES_MAX];
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static const char *root, *shadow;
static const volatile char *control;

static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);
static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_writev)(int, const struct iovec *, int);
static ssize_t (*real_pwritev)(int, const struct iovec *, int, off_t);
static int (*real_fsync)(int);
static int (*real_fdatasync)(int);

__attribute__((constructor)) static void begin(void)
{
    real_pwrite = dlsym(RTLD_NEXT, "pwrite64");
    real_write = dlsym(RTLD_NEXT, "write");
    real_writev = dlsym(RTLD_NEXT, "writev");
    real_pwritev = dlsym(RTLD_NEXT, "pwritev64");
    real_fsync = dlsym(RTLD_NEXT, "fsync");
    real_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
    root = getenv("FAULTY_DISK_ROOT");
    shadow = getenv("FAULTY_DISK_SHADOW");
    const char *path = getenv("FAULTY_DISK_CONTROL");
    int fd = path == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        void *mapped = mmap(NULL, 1, PROT_READ, MAP_SHARED, fd, 0);
        control = mapped == MAP_FAILED ? NULL : mapped;
        close(fd);
    }
}

static char mode(void) { return control == NULL ? '.' : *control; }

/* Whether the file is on this disk. */
static int ours(int fd)
{
    char link[64], path[PATH_MAX];
    if (root == NULL)
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0)
        return 0;
    path[length] = 0;
    size_t prefix = strlen(root);
    return strncmp(path, root, prefix) == 0 && path[prefix] == '/';
}

static struct file *entry(int fd)
{
    struct stat stat;
    if (fstat(fd, &stat) != 0 || !S_ISREG(stat.st_mode))
        return NULL;
    for (int i = 0; i < FILES_MAX; i++) {
        if (files[i] == NULL) {
            files[i] = calloc(1, sizeof *files[i]);
            files[i]->device = stat.st_dev;
            files[i]->inode = stat.st_ino;
        }
        if (files[i]->device == stat.st_dev && files[i]->inode == stat.st_ino)
            return files[i];
    }
    abort(); /* a larger FILES_MAX, please */
}

static void dirty(int fd, off_t from, ssize_t size)
{
    if (size <= 0 || shadow == NULL)
        return;
    pthread_mutex_lock(&mutex);
    struct file *file = entry(fd);
    if (file != NULL) {
        struct range *last = &file->ranges[file->used - 1];
        if (file->used > 0 && last->to == from)
            last->to = from + size;
        else if (file->used < RANGES_MAX)
            file->ranges[file->used++] = (struct range){from, from + size};
        else
            abort();
    }
    pthread_mutex_unlock(&mutex);
}

/* The durable image of a file, made if there is none. */
static int image(int fd)
{
    char name[64], path[PATH_MAX];
    ssize_t length = fgetxattr(fd, ATTRIBUTE, name, sizeof name - 1);
    if (length < 0) {
        static unsigned number;
        length = snprintf(name, sizeof name, "%d-%u", getpid(), number++);
        if (fsetxattr(fd, ATTRIBUTE, name, length, 0) != 0)
            abort();
    }
    name[length] = 0;
    snprintf(path, sizeof path, "%s/%s", shadow, name);
    return open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
}

static void keep(int fd, struct file *file)
{
    char path[64], buffer[65536];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    /* Another descriptor only where this one cannot read: closing it lets go of the file's locks. */
    int readable = (fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDWR;
    int from = readable ? fd : open(path, O_RDONLY | O_CLOEXEC), to = image(fd);
    struct stat stat;
    if (from < 0 || to < 0 || fstat(fd, &stat) != 0)
        abort();
    for (int i = 0; i < file->used; i++) {
        off_t at = file->ranges[i].from;
        while (at < file->ranges[i].to) {
            size_t want = file->ranges[i].to - at;
            ssize_t got = pread(from, buffer, want < sizeof buffer ? want : sizeof buffer, at);
            if (got <= 0)
                break;
            real_pwrite(to, buffer, got, at);
            at += got;
        }
    }
    if (ftruncate(to, stat.st_size) != 0)
        abort();
    if (!readable)
        close(from);
    close(to);
}

static int synced(int fd, int (*real)(int))
{
    if (!ours(fd))
        return real(fd);
    int failing = mode() == 's';
    pthread_mutex_lock(&mutex);
    struct file *file = shadow == NULL ? NULL : entry(fd);
    if (file != NULL) {
        if (!failing)
            keep(fd, file);
        file->used = 0;
    }
    pthread_mutex_unlock(&mutex);
    if (failing) {
        errno = EIO;
        return -1;
    }
    return 0; /* the images are what counts: the real disk may take its time */
}

static int refused(int fd)
{
    char now = mode();
    if ((now != 'w' && now != 'f') || !ours(fd))
        return 0;
    errno = now == 'f' ? ENOSPC : EIO;
    return 1;
}

ssize_t pwrite64(int fd, const void *data, size_t size, off_t at)
{
    if (refused(fd))
        return -1;
    ssize_t done = real_pwrite(fd, data, size, at);
    if (ours(fd))
        dirty(fd, at, done);
    return done;
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at) { return pwrite64(fd, data, size, at); }

ssize_t pwritev64(int fd, const struct iovec *parts, int count, off_t at)
{
    if (refused(fd))
        return -1;
    ssize_t done = real_pwritev(fd, parts, count, at);
    if (ours(fd))
        dirty(fd, at, done);
    return done;
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t at) { return pwritev64(fd, parts, count, at); }

ssize_t write(int fd, const void *data, size_t size)
{
    if (refused(fd))
        return -1;
    ssize_t done = real_write(fd, data, size);
    if (done > 0 && ours(fd))
        dirty(fd, lseek(fd, 0, SEEK_CUR) - done, done);
    return done;
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    if (refused(fd))
        return -1;
    ssize_t done = real_writev(fd, parts, count);
    if (done > 0 && ours(fd))
        dirty(fd, lseek(fd, 0, SEEK_CUR) - done, done);
    return done;
}

int fsync(int fd) { return synced(fd, real_fsync); }

int fdatasync(int fd) { return synced(fd, real_fdatasync); }
