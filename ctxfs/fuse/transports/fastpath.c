/* The fast path: a FUSE request loop that answers requests which need no decision, and packs directory listings.
 *
 * A file that was opened for reading and closed again stays open in a cache. While its version is unchanged, the
 * next open gets the same handle immediately. A file that was listed or looked up is expected, and opened by its
 * name. Python decides which files may be opened and cached, and until when (`fastpath.pyi` documents the
 * interface). Requests that are not answered here go to Python unchanged.
 *
 * One thread uses a Loop, others may wake it. It runs without the interpreter's lock until Python has to act. The
 * layouts are those of <linux/fuse.h>, FUSE protocol 7.
 */

#define _GNU_SOURCE /* splice, pipe2 */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

enum { OPEN = 14, READ = 15, RELEASE = 18, GETXATTR = 22, FLUSH = 25, READDIRPLUS = 44 };
enum { NOTES = 1024, BUCKETS = 1 << 14, TRIES = 8 };
enum { LOOK_WHERE = 512, STAT_PROCESSOR = 39 };
enum { BARE = 1 << 12, EXPECTED = 1 << 15, NAME = 72, OPENED = 256, DESCRIPTORS = 1 << 12, NAMESPACE = 16 };
#define NONE (-1)
#define SPLICED (64 * 1024) /* reads of at least this size are spliced, not copied */
#define PIPE_BYTES (1024 * 1024)
#define WAKES SIGURG /* unused elsewhere, and ignored by default */
#define LOOKING_NS 150000 /* waking a sleeping processor costs more than a request */
#define NEVER_KEPT (O_ACCMODE | O_TRUNC | O_APPEND | O_SYNC | O_DSYNC | O_DIRECT)
#define KEEP_CACHE (1 << 1)
#define NOFLUSH (1 << 5) /* no FLUSH on close: Python opens the files that have locks */
#define COUNTED 42       /* a handle is a descriptor, and from this bit on the number of the open file description */
#define TURNS (1u << 21)

struct in_header {
    uint32_t len, opcode;
    uint64_t unique, number;
    uint32_t uid, gid, pid, padding;
};
struct out_header {
    uint32_t len;
    int32_t error;
    uint64_t unique;
};
struct open_in {
    uint32_t flags, open_flags;
};
struct open_out {
    uint64_t fh;
    uint32_t flags;
    int32_t backing;
};
struct read_in {
    uint64_t fh, offset;
    uint32_t size, read_flags;
    uint64_t lock_owner;
    uint32_t flags, padding;
};
struct release_in {
    uint64_t fh;
    uint32_t flags, release_flags;
    uint64_t lock_owner;
};

struct flush_in {
    uint64_t fh;
    uint32_t unused, padding;
    uint64_t lock_owner;
};

struct getxattr_in {
    uint32_t size, padding;
    char name[];
};

struct attr {
    uint64_t number, size, blocks, atime, mtime, ctime;
    uint32_t atime_ns, mtime_ns, ctime_ns, mode, links, uid, gid, device, block_size, flags;
};
struct entry {
    uint64_t number, generation, entry_seconds, attr_seconds;
    uint32_t entry_ns, attr_ns;
    struct attr attr;
};
struct direntry {
    struct entry entry;
    uint64_t number, following;
    uint32_t length, kind;
    char name[];
};

/* The version of a file when the kernel last read its content. */
struct version {
    int64_t mtime_ns, ctime_ns, size, mode;
};

struct kept {
    uint64_t number;
    struct version version;
    int fd;            /* also the handle */
    uint32_t uses;     /* the number of open file descriptions */
    uint32_t turn;     /* counts the opens, because each open file description has a handle of its own */
    int next;          /* the next slot in its bucket, or the next free slot */
    char is_used;      /* this slot is in use */
    char ends;         /* closed with its last use; no further open gets it */
};

struct note {
    uint64_t number;
    int64_t time_ns;
};

/* A file that may be opened for reading, by directory and name. */
struct expected {
    uint64_t number, inode, device; /* number 0: an empty slot */
    uint32_t era, closed;           /* the counts below at that time */
    int directory;
    char name[NAME];
};

/* A file that was opened here and is not yet reported to Python, and the evicted file. */
struct opened {
    uint64_t number;
    struct version version;
    int fd, has_closed;
    struct kept closes;
};

typedef struct {
    PyObject_HEAD
    int fd, wake;
    atomic_int is_woken, sleeps; /* other work is pending; this thread is in read(2), which may block */
    int waits;                   /* read(2) blocks */
    pthread_t thread;
    int pipe[2];
    Py_buffer buffer;
    struct kept *kept;
    int most, made, unused;
    uint32_t chance;
    int buckets[BUCKETS];
    struct note notes[NOTES];
    int noted, notes_reads;
    uint64_t bare[BARE];         /* files without a capability, one slot a hash value */
    int answers_acls;            /* an absent ACL is ENODATA, not EOPNOTSUPP */
    struct expected *expected;
    uint32_t era, closed[DESCRIPTORS]; /* counts of end_all, and of closes by a directory's descriptor (lowest bits) */
    struct opened opened[OPENED];
    int has_opened;
    struct {
        uint64_t number, handle; /* number 0: none */
    } closed_handle; /* of a removed file that others still have open: locks may have been taken through it */
    int flushes, watches_closes; /* FLUSH is answered here; each FLUSH goes to Python */
    struct {
        uint64_t number, place;
    } end; /* of the directory that was last read to its end; number 0: none */
    char attributes[NAMESPACE]; /* the prefix of attribute names that Python answers */
    unsigned since_where;
    uint32_t asked_by; /* the thread that sent the last request */
    int is_beside;     /* it runs on this thread's processor */
    uint32_t *users;   /* the users that are served; NULL: all that the kernel admits */
    Py_ssize_t user_count;
    unsigned long long answered;
} Loop;

/* Times that do not fit wrap around, as in `attributes.version_of`. */
static int64_t ns_of(struct timespec when) {
    return (int64_t)((uint64_t)when.tv_sec * 1000000000ull + (uint64_t)when.tv_nsec);
}

static int64_t ns_now(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return ns_of(now);
}

/* the cache of open files */

static uint64_t spread(uint64_t number) {
    return number * 0x9E3779B97F4A7C15ull;
}

static int *bucket_of(Loop *self, uint64_t number) {
    return &self->buckets[spread(number) >> 50];
}

static int find(Loop *self, uint64_t number) {
    int at = *bucket_of(self, number);
    while (at != NONE && self->kept[at].number != number)
        at = self->kept[at].next;
    return at;
}

static void take_out(Loop *self, int at) {
    struct kept *one = &self->kept[at];
    int *here = bucket_of(self, one->number);
    while (*here != at)
        here = &self->kept[*here].next;
    *here = one->next;
    one->is_used = 0;
    one->next = self->unused;
    self->unused = at;
}

static struct version version_of(const struct stat *found) {
    return (struct version){ns_of(found->st_mtim), ns_of(found->st_ctim), found->st_size, found->st_mode};
}

static int is_as_it_was(const struct kept *one) {
    struct stat found;
    if (fstat(one->fd, &found) < 0)
        return 0;
    struct version now = version_of(&found);
    return memcmp(&now, &one->version, sizeof now) == 0;
}

/* Eviction is random: with LRU, a client that rereads more files than the cache holds would miss each time. */
static int any_idle(Loop *self) {
    for (int tries = 0; tries < TRIES; tries++) {
        self->chance = self->chance * 1664525u + 1013904223u;
        int at = (int)((uint64_t)self->chance * (uint64_t)self->made >> 32);
        if (self->kept[at].is_used && !self->kept[at].uses)
            return at;
    }
    return NONE;
}

/* Return a slot for a new file, NONE if almost all are in use; `goes` is the evicted slot, or NONE. */
static int place(Loop *self, int *goes) {
    *goes = NONE;
    if (self->unused == NONE && self->made == self->most) {
        *goes = any_idle(self);
        if (*goes == NONE)
            return NONE;
        take_out(self, *goes);
    }
    int at = self->unused;
    if (at == NONE)
        at = self->made++;
    else
        self->unused = self->kept[at].next;
    return at;
}

static void put_in(Loop *self, int at, struct kept one) {
    int *bucket = bucket_of(self, one.number);
    one.uses = 1;
    one.is_used = 1;
    one.next = *bucket;
    self->kept[at] = one;
    *bucket = at;
}

/* the table of expected files: one slot a hash value, and a later file replaces an earlier one */

static struct expected *expected_place(Loop *self, uint64_t number) {
    return &self->expected[spread(number) >> 49];
}

static uint32_t *closed_count(Loop *self, int directory) {
    return &self->closed[(unsigned)directory % DESCRIPTORS];
}

static const struct expected *find_expected(Loop *self, uint64_t number) {
    const struct expected *one = expected_place(self, number);
    return one->number == number && one->era == self->era && one->closed == *closed_count(self, one->directory) ? one : NULL;
}

static void expect(Loop *self, int directory, uint64_t number, uint64_t device, uint64_t inode, const char *name, size_t length) {
    if (length >= NAME)
        return;
    struct expected *one = expected_place(self, number);
    *one = (struct expected){number, inode, device, self->era, *closed_count(self, directory), directory, ""};
    memcpy(one->name, name, length);
}

static uint64_t *bare_place(Loop *self, uint64_t number) {
    return &self->bare[spread(number) >> 52];
}

static void unexpect(Loop *self, uint64_t number) {
    struct expected *one = expected_place(self, number);
    if (*bare_place(self, number) == number)
        *bare_place(self, number) = 0;
    if (one->number == number)
        one->number = 0;
}

/* Return a descriptor, or NONE: Python then gets the same error. */
static int open_expected(const struct expected *one, struct stat *found) {
    int fd = openat(one->directory, one->name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return NONE;
    if (fstat(fd, found) == 0 && S_ISREG(found->st_mode) && found->st_ino == one->inode && found->st_dev == one->device)
        return fd;
    close(fd);
    return NONE;
}

/* requests */

static int reply(Loop *self, uint64_t unique, const void *body, size_t size) {
    struct out_header head = {(uint32_t)(sizeof head + size), 0, unique};
    struct iovec parts[2] = {{&head, sizeof head}, {(void *)body, size}};
    return writev(self->fd, parts, size ? 2 : 1) < 0 ? -1 : 0;
}

static void note(Loop *self, uint64_t number) {
    if (self->notes_reads)
        self->notes[self->noted++] = (struct note){number, ns_now(CLOCK_REALTIME)};
}

static uint64_t descriptor_of(uint64_t handle) {
    return handle & (((uint64_t)1 << COUNTED) - 1);
}

static int answer_first_open(Loop *self, const struct in_header *in) {
    const struct expected *one = find_expected(self, in->number);
    struct stat found;
    int fd, goes;
    if (one == NULL || self->has_opened == OPENED || (fd = open_expected(one, &found)) == NONE)
        return 0;
    int at = place(self, &goes);
    if (at == NONE) {
        close(fd);
        return 0;
    }
    struct opened *opened = &self->opened[self->has_opened++];
    *opened = (struct opened){.number = in->number, .version = version_of(&found), .fd = fd};
    if (goes != NONE) {
        opened->has_closed = 1;
        opened->closes = self->kept[goes];
    }
    put_in(self, at, (struct kept){.number = in->number, .version = opened->version, .fd = fd});
    struct open_out answer = {(uint64_t)fd, NOFLUSH, 0}; /* no KEEP_CACHE: the kernel's pages may be older */
    if (reply(self, in->unique, &answer, sizeof answer) < 0)
        self->kept[at].uses--; /* the caller has gone */
    else
        note(self, in->number);
    return 1;
}

static int answer_open(Loop *self, const struct in_header *in, const struct open_in *asked) {
    if (asked->flags & NEVER_KEPT || (self->notes_reads && self->noted == NOTES))
        return 0;
    int at = find(self, in->number);
    if (at == NONE)
        return answer_first_open(self, in);
    struct kept *one = &self->kept[at];
    if (one->ends || !is_as_it_was(one))
        return 0;
    one->turn = one->turn % (TURNS - 1) + 1;
    struct open_out answer = {(uint64_t)one->fd | (uint64_t)one->turn << COUNTED, KEEP_CACHE | NOFLUSH, 0};
    one->uses++;
    if (reply(self, in->unique, &answer, sizeof answer) < 0)
        one->uses--; /* the caller has gone */
    else
        note(self, in->number);
    return 1;
}

static int answer_release(Loop *self, const struct in_header *in, const struct release_in *asked) {
    int at = find(self, in->number);
    if (at == NONE)
        return 0;
    struct kept *one = &self->kept[at];
    if (descriptor_of(asked->fh) != (uint64_t)one->fd || one->uses == 0)
        return 0;
    if (--one->uses == 0 && one->ends) {
        take_out(self, at);
        return 0; /* it has no users: Python closes it */
    }
    reply(self, in->unique, NULL, 0);
    if (one->ends) {
        self->closed_handle.number = in->number;
        self->closed_handle.handle = asked->fh;
    }
    return 1;
}

/* Without locks there is nothing to release at FLUSH. */
static int answer_flush(Loop *self, const struct in_header *in) {
    if (!self->flushes || self->watches_closes)
        return 0;
    reply(self, in->unique, NULL, 0);
    return 1;
}

static void empty_pipe(Loop *self, char *into, size_t size) {
    while (read(self->pipe[0], into, size) > 0)
        continue;
}

/* Answer a large read by splice, without copies. Return 0 if the caller must copy. No SPLICE_F_MOVE: the pages stay
   in the page cache. */
static int pass_on(Loop *self, const struct in_header *in, const struct read_in *asked, int fd) {
    struct stat found;
    struct out_header head = {(uint32_t)(sizeof head + asked->size), 0, in->unique};
    if (self->pipe[0] < 0 || fstat(fd, &found) < 0 || asked->offset > (uint64_t)found.st_size
        || asked->size > (uint64_t)found.st_size - asked->offset)
        return 0;
    off_t offset = (off_t)asked->offset;
    size_t left = asked->size;
    ssize_t moved = write(self->pipe[1], &head, sizeof head);
    while (moved > 0 && left > 0) {
        moved = splice(fd, &offset, self->pipe[1], NULL, left, SPLICE_F_NONBLOCK);
        left -= moved > 0 ? (size_t)moved : 0;
    }
    if (left == 0 && splice(self->pipe[0], NULL, self->fd, NULL, head.len, SPLICE_F_NONBLOCK) == (ssize_t)head.len)
        return 1;
    empty_pipe(self, (char *)(asked + 1), (size_t)self->buffer.len - sizeof *in - sizeof *asked);
    return 0;
}

static int read_from(Loop *self, const struct in_header *in, const struct read_in *asked, int fd) {
    size_t taken = sizeof *in + sizeof *asked; /* the reply is placed behind the request, which Python may still need */
    if (asked->size > (size_t)self->buffer.len - taken)
        return 0;
    if (asked->size >= SPLICED && pass_on(self, in, asked, fd))
        return 1;
    char *into = (char *)self->buffer.buf + taken;
    ssize_t size = pread(fd, into, asked->size, (off_t)asked->offset);
    if (size < 0)
        return 0; /* Python gets the same error, and reports it */
    reply(self, in->unique, into, (size_t)size);
    return 1;
}

/* Answer a read with handle 0, of a file that has not been opened. */
static int answer_unopened_read(Loop *self, const struct in_header *in, const struct read_in *asked) {
    const struct expected *one = find_expected(self, in->number);
    struct stat found;
    int fd = one == NULL ? NONE : open_expected(one, &found);
    if (fd == NONE)
        return 0;
    int answered = read_from(self, in, asked, fd);
    close(fd);
    return answered;
}

static int answer_read(Loop *self, const struct in_header *in, const struct read_in *asked) {
    if (!asked->fh)
        return answer_unopened_read(self, in, asked);
    int at = find(self, in->number);
    if (at == NONE)
        return 0;
    struct kept *one = &self->kept[at];
    return !one->ends && descriptor_of(asked->fh) == (uint64_t)one->fd && read_from(self, in, asked, one->fd);
}

/* A reader of a directory sends one more READDIRPLUS after the last name: the reply is empty. */
static int answer_end(Loop *self, const struct in_header *in, const struct read_in *asked) {
    if (in->number == self->end.number && asked->offset == self->end.place) {
        reply(self, in->unique, NULL, 0);
        return 1;
    }
    if (in->number == self->end.number)
        self->end.number = 0; /* a new reading of the directory, whose end may differ */
    return 0;
}

static int begins(const char *name, size_t size, const char *with) {
    size_t length = strlen(with);
    return size > length && memcmp(name, with, length) == 0;
}

/* Equal to `attributes.is_handed_on`. */
static int is_handed_on(const char *name, size_t size) {
    static const char *const labels[] = {"security.selinux", "security.SMACK64", "security.apparmor", "security.ima", "security.evm"};
    for (size_t at = 0; at < sizeof labels / sizeof *labels; at++)
        if (begins(name, size, labels[at]))
            return 0;
    return begins(name, size, "security.") || begins(name, size, "trusted.") || begins(name, size, "system.posix_acl_");
}

/* Return 1 if an expected file certainly lacks an attribute. In other cases Python looks. */
static int lacks(Loop *self, uint64_t number, const char *name) {
    const struct expected *one = find_expected(self, number);
    char place[sizeof "/proc/self/fd/2147483647/" + NAME];
    if (one == NULL)
        return 0;
    snprintf(place, sizeof place, "/proc/self/fd/%d/%s", one->directory, one->name);
    return lgetxattr(place, name, NULL, 0) < 0 && (errno == ENODATA || errno == EOPNOTSUPP);
}

/* The kernel reads the capabilities of a file before each write to it, and `ls -l` reads more such attributes: most
   files have none. */
static int answer_getxattr(Loop *self, const struct in_header *in, const struct getxattr_in *asked, size_t size) {
    struct out_header head = {sizeof head, -EOPNOTSUPP, in->unique};
    if (begins(asked->name, size, self->attributes) || asked->name[size - 1])
        return 0;
    if (is_handed_on(asked->name, size)) {
        int is_acl = begins(asked->name, size, "system.");
        int is_bare = !strcmp(asked->name, "security.capability") && *bare_place(self, in->number) == in->number;
        if (!is_bare && !lacks(self, in->number, asked->name))
            return 0;
        head.error = is_acl && !self->answers_acls ? -EOPNOTSUPP : -ENODATA;
    }
    return write(self->fd, &head, sizeof head) == sizeof head;
}

static int is_admitted(const Loop *self, uint32_t uid) {
    if (self->users == NULL)
        return 1;
    for (Py_ssize_t at = 0; at < self->user_count; at++)
        if (self->users[at] == uid)
            return 1;
    return 0;
}

/* Return 1 if the request in the buffer has been answered. */
static int answer(Loop *self, size_t size) {
    const struct in_header *in = self->buffer.buf;
    const void *body = in + 1;
    if (size < sizeof *in)
        return 0;
    if (in->pid) /* it is 0 for requests without a waiting caller, such as RELEASE */
        self->asked_by = in->pid;
    size -= sizeof *in;
    if (in->opcode != RELEASE && in->opcode != FLUSH && !is_admitted(self, in->uid))
        return 0; /* Python refuses it */
    switch (in->opcode) {
    case OPEN:
        return size >= sizeof(struct open_in) && answer_open(self, in, body);
    case READ:
        return size >= sizeof(struct read_in) && answer_read(self, in, body);
    case GETXATTR:
        return size > sizeof(struct getxattr_in) && answer_getxattr(self, in, body, size - sizeof(struct getxattr_in));
    case READDIRPLUS:
        return size >= sizeof(struct read_in) && answer_end(self, in, body);
    case FLUSH:
        return size >= sizeof(struct flush_in) && answer_flush(self, in);
    case RELEASE:
        return size >= sizeof(struct release_in) && answer_release(self, in, body);
    default:
        return 0;
    }
}

/* Return the processor that a thread ran on last, from proc(5); NONE on error. */
static int processor_of(uint32_t thread) {
    char place[32], text[1024];
    snprintf(place, sizeof place, "/proc/%u/stat", thread);
    int fd = open(place, O_RDONLY | O_CLOEXEC);
    ssize_t size = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (fd >= 0)
        close(fd);
    text[size > 0 ? size : 0] = 0;
    const char *at = strrchr(text, ')'); /* the second field, a name, may contain any character */
    for (int field = 2; at != NULL && field < STAT_PROCESSOR; field++)
        at = strchr(at + 1, ' ');
    return at == NULL ? NONE : atoi(at + 1);
}

/* Return true if the client runs on this thread's processor: it can then continue only when this thread sleeps. */
static int is_beside(Loop *self) {
    if (self->since_where++ % LOOK_WHERE == 0)
        self->is_beside = processor_of(self->asked_by) == sched_getcpu();
    return self->is_beside;
}

static void do_nothing(int number) {
    (void)number;
}

/* Make read(2) block, or return EAGAIN. */
static int set_flags(Loop *self, int waits) {
    int flags = fcntl(self->fd, F_GETFL);
    return flags < 0 ? -1 : fcntl(self->fd, F_SETFL, waits ? flags & ~O_NONBLOCK : flags | O_NONBLOCK);
}

/* A blocking thread is SCHED_BATCH: requests without a waiting client, such as RELEASE, must not preempt the client.
   They are answered together with its next request. */
static void set_waits(Loop *self, int waits) {
    struct sigaction ends = {.sa_handler = do_nothing}; /* without SA_RESTART: the signal ends a read */
    if (waits == self->waits)
        return;
    self->thread = pthread_self();
    if ((waits && sigaction(WAKES, &ends, NULL) < 0) || set_flags(self, waits) < 0)
        return;
    self->waits = waits;
    if (sched_getscheduler(0) == (waits ? SCHED_OTHER : SCHED_BATCH))
        sched_setscheduler(0, waits ? SCHED_BATCH : SCHED_OTHER, &(struct sched_param){0});
}

/* Callable from any thread. The flag keeps a later read from blocking, and the signal ends a read that blocks
   already. */
static void wake(Loop *self) {
    atomic_store(&self->is_woken, 1);
    if (atomic_load(&self->sleeps)) {
        set_flags(self, 0);
        pthread_kill(self->thread, WAKES);
    }
}

/* A waker sets `is_woken` first and then reads `sleeps`; this order excludes a lost wake-up. */
static ssize_t read_request(Loop *self) {
    ssize_t size = -1;
    errno = EINTR;
    atomic_store(&self->sleeps, self->waits);
    if (!self->waits || !atomic_load(&self->is_woken))
        size = read(self->fd, self->buffer.buf, (size_t)self->buffer.len);
    atomic_store(&self->sleeps, 0);
    return size;
}

static int sleep_until_asked(Loop *self) {
    struct pollfd of[2] = {{self->wake, POLLIN, 0}, {self->fd, POLLIN, 0}};
    return poll(of, 2, -1);
}

/* Return the size of a request for Python; 0 if there is other work, or with `once` if there was none or it has been
   answered; -1: errno.

   A client's next request follows within microseconds of a reply. If the client runs on this processor, the read
   blocks, so that the client continues at once. Otherwise reads are polled for a while, because waking a processor
   takes longer. Yielding lets other threads of this processor run first, though not always. */
static ssize_t next_request(Loop *self, int once) {
    int64_t looking_since = 0;
    for (;;) {
        if (!once && atomic_exchange(&self->is_woken, 0))
            return 0;
        set_waits(self, !once && is_beside(self));
        ssize_t size = read_request(self);
        if (size >= 0) {
            if (!answer(self, (size_t)size))
                return size;
            self->answered++;
            looking_since = 0;
            if (self->closed_handle.number)
                return 0;
        } else if (errno == EAGAIN && self->waits) {
            self->waits = 0; /* woken: `wake` has set O_NONBLOCK */
        } else if (errno == EAGAIN && !once) {
            int64_t now = ns_now(CLOCK_MONOTONIC);
            if (!looking_since)
                looking_since = now;
            if (now - looking_since < LOOKING_NS)
                sched_yield();
            else if (sleep_until_asked(self) < 0)
                return 0; /* a signal */
        } else if (errno == EINTR) {
            return 0;
        } else if (errno != EAGAIN && errno != ENOENT) { /* ENOENT: the caller has gone */
            return -1;
        }
        if (once)
            return 0;
    }
}

/* methods for Python */

static PyObject *loop_next(Loop *self, PyObject *args) {
    int once = 0;
    if (!PyArg_ParseTuple(args, "|p", &once))
        return NULL;
    ssize_t size;
    int code;
    Py_BEGIN_ALLOW_THREADS
    size = next_request(self, once);
    code = errno;
    Py_END_ALLOW_THREADS
    if (size < 0) {
        errno = code;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    return PyLong_FromSsize_t(size);
}

static PyObject *loop_wake(Loop *self, PyObject *Py_UNUSED(ignored)) {
    wake(self);
    Py_RETURN_NONE;
}

static PyObject *loop_admit(Loop *self, PyObject *args) {
    PyObject *users;
    if (!PyArg_ParseTuple(args, "O", &users))
        return NULL;
    Py_ssize_t count = PyList_Size(users);
    uint32_t *made = count < 0 ? NULL : calloc((size_t)count + 1, sizeof *made);
    if (count < 0 || made == NULL)
        return count < 0 ? NULL : PyErr_NoMemory();
    for (Py_ssize_t at = 0; at < count; at++)
        made[at] = (uint32_t)PyLong_AsUnsignedLong(PyList_GetItem(users, at));
    free(self->users);
    self->users = made;
    self->user_count = count;
    if (PyErr_Occurred())
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *handle_of(const struct kept *one) {
    return PyLong_FromLong(one->fd);
}

static PyObject *version_for_python(struct version is) {
    return Py_BuildValue("LLLL", (long long)is.mtime_ns, (long long)is.ctime_ns, (long long)is.size, (long long)is.mode);
}

/* Remove a file from the cache. Return its handle, which Python must close, or None while it is in use. */
static PyObject *end_one(Loop *self, int at) {
    struct kept *one = &self->kept[at];
    if (one->uses) {
        one->ends = 1;
        Py_RETURN_NONE;
    }
    take_out(self, at);
    return handle_of(one);
}

static PyObject *loop_keep(Loop *self, PyObject *args) {
    unsigned long long number;
    int fd;
    long long mtime_ns, ctime_ns, size, mode;
    if (!PyArg_ParseTuple(args, "Ki(LLLL)", &number, &fd, &mtime_ns, &ctime_ns, &size, &mode))
        return NULL;
    int goes;
    int at = find(self, number) == NONE ? place(self, &goes) : NONE;
    if (at == NONE) /* not cached: closed when its user closes it */
        Py_RETURN_NONE;
    PyObject *closes = goes == NONE ? Py_NewRef(Py_None) : handle_of(&self->kept[goes]);
    put_in(self, at, (struct kept){.number = number, .version = {mtime_ns, ctime_ns, size, mode}, .fd = fd});
    return closes;
}

static PyObject *loop_expect(Loop *self, PyObject *args) {
    int directory;
    PyObject *files;
    if (!PyArg_ParseTuple(args, "iO", &directory, &files))
        return NULL;
    for (Py_ssize_t at = 0; at < PyList_Size(files); at++) {
        unsigned long long number, device, inode;
        const char *name;
        Py_ssize_t size;
        if (!PyArg_ParseTuple(PyList_GetItem(files, at), "KKKy#", &number, &device, &inode, &name, &size))
            return NULL;
        expect(self, directory, number, device, inode, name, (size_t)size);
    }
    if (PyErr_Occurred())
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *loop_unexpect(Loop *self, PyObject *args) {
    unsigned long long number;
    if (!PyArg_ParseTuple(args, "K", &number))
        return NULL;
    unexpect(self, number);
    Py_RETURN_NONE;
}

static PyObject *loop_closed(Loop *self, PyObject *args) {
    int directory;
    if (!PyArg_ParseTuple(args, "i", &directory))
        return NULL;
    ++*closed_count(self, directory);
    Py_RETURN_NONE;
}

static PyObject *loop_ends(Loop *self, PyObject *args) {
    unsigned long long number, place;
    if (!PyArg_ParseTuple(args, "KK", &number, &place))
        return NULL;
    self->end.number = number;
    self->end.place = place;
    Py_RETURN_NONE;
}

static PyObject *loop_end(Loop *self, PyObject *args) {
    unsigned long long number;
    if (!PyArg_ParseTuple(args, "K", &number))
        return NULL;
    unexpect(self, number);
    int at = find(self, number);
    if (at == NONE)
        Py_RETURN_NONE;
    return end_one(self, at);
}

static PyObject *loop_end_all(Loop *self, PyObject *Py_UNUSED(ignored)) {
    self->era++;
    memset(self->bare, 0, sizeof self->bare);
    PyObject *closes = PyList_New(0);
    for (int at = 0; closes != NULL && at < self->made; at++) {
        PyObject *one = self->kept[at].is_used ? end_one(self, at) : Py_NewRef(Py_None);
        if (one == NULL || (one != Py_None && PyList_Append(closes, one) < 0))
            Py_CLEAR(closes);
        Py_XDECREF(one);
    }
    return closes;
}

static PyObject *loop_take_notes(Loop *self, PyObject *Py_UNUSED(ignored)) {
    PyObject *notes = PyList_New(self->noted);
    for (int at = 0; notes != NULL && at < self->noted; at++) {
        PyObject *note = Py_BuildValue("KL", (unsigned long long)self->notes[at].number, (long long)self->notes[at].time_ns);
        if (note == NULL || PyList_SetItem(notes, at, note) < 0)
            Py_CLEAR(notes);
    }
    if (notes != NULL)
        self->noted = 0;
    return notes;
}

static PyObject *loop_take_opened(Loop *self, PyObject *Py_UNUSED(ignored)) {
    PyObject *all = PyList_New(self->has_opened);
    for (int at = 0; all != NULL && at < self->has_opened; at++) {
        const struct opened *one = &self->opened[at];
        PyObject *item = Py_BuildValue("KiNN", (unsigned long long)one->number, one->fd, version_for_python(one->version),
                                       one->has_closed ? handle_of(&one->closes) : Py_NewRef(Py_None));
        if (item == NULL || PyList_SetItem(all, at, item) < 0)
            Py_CLEAR(all);
    }
    if (all != NULL)
        self->has_opened = 0;
    return all;
}

static PyObject *loop_take_closed(Loop *self, PyObject *Py_UNUSED(ignored)) {
    if (!self->closed_handle.number)
        return PyList_New(0);
    PyObject *one = Py_BuildValue("[(KK)]", (unsigned long long)self->closed_handle.number,
                                  (unsigned long long)self->closed_handle.handle);
    self->closed_handle.number = 0;
    return one;
}

static PyObject *loop_bare(Loop *self, PyObject *args) {
    unsigned long long number;
    if (!PyArg_ParseTuple(args, "K", &number))
        return NULL;
    *bare_place(self, number) = number;
    Py_RETURN_NONE;
}

static PyObject *loop_answer_acls(Loop *self, PyObject *Py_UNUSED(ignored)) {
    self->answers_acls = 1;
    Py_RETURN_NONE;
}

static PyObject *loop_watch_closes(Loop *self, PyObject *args) {
    if (!PyArg_ParseTuple(args, "p", &self->watches_closes))
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *loop_has_opened(Loop *self, void *Py_UNUSED(closure)) {
    return PyBool_FromLong(self->has_opened || self->closed_handle.number);
}

static PyObject *loop_noted(Loop *self, void *Py_UNUSED(closure)) {
    return PyBool_FromLong(self->noted);
}

static PyObject *loop_answered(Loop *self, void *Py_UNUSED(closure)) {
    return PyLong_FromUnsignedLongLong(self->answered);
}

static int loop_init(Loop *self, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"fd", "wake", "buffer", "most", "notes_reads", "attributes", "flushes", NULL};
    int fd, wake, most, notes_reads;
    PyObject *buffer;
    const char *attributes;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "iiOipyp", names, &fd, &wake, &buffer, &most, &notes_reads, &attributes,
                                     &self->flushes))
        return -1;
    if (self->kept != NULL || most < 1 || strlen(attributes) >= NAMESPACE) {
        PyErr_SetString(PyExc_ValueError, "a loop is made once, keeps something, and knows attributes by a short beginning");
        return -1;
    }
    if (PyObject_GetBuffer(buffer, &self->buffer, PyBUF_WRITABLE) < 0)
        return -1;
    self->kept = calloc((size_t)most, sizeof *self->kept);
    self->expected = calloc(EXPECTED, sizeof *self->expected);
    if (self->kept == NULL || self->expected == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    self->fd = fd;
    self->wake = wake;
    self->most = most;
    self->notes_reads = notes_reads;
    strcpy(self->attributes, attributes);
    /* Without a pipe, or with a small one, reads are copied. */
    if (pipe2(self->pipe, O_CLOEXEC | O_NONBLOCK) < 0)
        self->pipe[0] = self->pipe[1] = -1;
    else
        fcntl(self->pipe[1], F_SETPIPE_SZ, PIPE_BYTES);
    self->unused = NONE;
    for (int at = 0; at < BUCKETS; at++)
        self->buckets[at] = NONE;
    return 0;
}

static void loop_dealloc(Loop *self) {
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    if (self->kept != NULL && self->pipe[0] >= 0) {
        close(self->pipe[0]);
        close(self->pipe[1]);
    }
    free(self->kept);
    free(self->expected);
    free(self->users);
    if (self->buffer.buf != NULL)
        PyBuffer_Release(&self->buffer);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

/* listings */

struct found {
    const char *name;
    Py_ssize_t length, position;
    uint64_t place;
    int is_there;
    struct stat stat;
};

/* Equal to `directory_stream.cookie_of`. */
static uint64_t place_of(PyObject *name) {
    uint64_t place = (uint64_t)(PyObject_Hash(name) >> 1) + (1ull << 62);
    return place > 2 ? place : 3;
}

static size_t size_of(const struct found *one) {
    return (sizeof(struct direntry) + (size_t)one->length + 7) & ~(size_t)7;
}

/* Return a device number in the kernel's encoding of 32 bits. */
static uint32_t device_of(const struct stat *found) {
    uint32_t high = major(found->st_rdev), low = minor(found->st_rdev);
    return (low & 0xff) | (high << 8) | ((low & ~0xffu) << 12);
}

static void put_entry(char *into, const struct found *one, uint64_t number, uint64_t seconds, uint32_t ns) {
    struct direntry *out = (struct direntry *)into;
    const struct stat *is = &one->stat;
    memset(into, 0, size_of(one));
    out->entry = (struct entry){number, 0, seconds, seconds, ns, ns, {
        number, (uint64_t)is->st_size, (uint64_t)is->st_blocks,
        (uint64_t)is->st_atim.tv_sec, (uint64_t)is->st_mtim.tv_sec, (uint64_t)is->st_ctim.tv_sec,
        (uint32_t)is->st_atim.tv_nsec, (uint32_t)is->st_mtim.tv_nsec, (uint32_t)is->st_ctim.tv_nsec,
        is->st_mode, (uint32_t)is->st_nlink, is->st_uid, is->st_gid, device_of(is), (uint32_t)is->st_blksize, 0}};
    out->number = number;
    out->following = one->place;
    out->length = (uint32_t)one->length;
    out->kind = is->st_mode >> 12 & 15;
    memcpy(out->name, one->name, (size_t)one->length);
}

/* Pick the names from `position` on whose entries fit into `size` bytes. Return their count, or -1; `needs` is their
   size in bytes. */
static Py_ssize_t pick(PyObject *names, Py_ssize_t position, size_t size, struct found *into, size_t *needs) {
    Py_ssize_t count = 0;
    for (*needs = 0; position < PyList_Size(names); position++, count++) {
        struct found *one = &into[count];
        PyObject *name = PyList_GetItem(names, position);
        one->position = position;
        one->name = PyBytes_AsString(name);
        if (one->name == NULL)
            return -1;
        one->length = PyBytes_Size(name);
        one->place = place_of(name);
        if (*needs + size_of(one) > size)
            break;
        *needs += size_of(one);
    }
    return count;
}

static PyObject *loop_entries(Loop *self, PyObject *args) {
    int directory;
    PyObject *names;
    Py_ssize_t position, size, count;
    unsigned long long numbers, seconds, below;
    unsigned ns;
    if (!PyArg_ParseTuple(args, "iOnnKKIK", &directory, &names, &position, &size, &numbers, &seconds, &ns, &below))
        return NULL;
    size_t most = (size_t)size / sizeof(struct direntry) + 1, left = (size_t)(PyList_Size(names) - position), needs, used = 0;
    struct found *found = malloc((left < most ? left + 1 : most) * sizeof *found);
    PyObject *packed = NULL, *list = PyList_New(0);
    if (found == NULL)
        PyErr_NoMemory();
    if (found == NULL || list == NULL)
        goto failed;
    do { /* an empty reply would be the end of the directory: go on if all of these names have vanished */
        count = pick(names, position, (size_t)size, found, &needs);
        if (count < 0)
            goto failed;
        Py_BEGIN_ALLOW_THREADS
        for (Py_ssize_t at = 0; at < count; at++)
            found[at].is_there = fstatat(directory, found[at].name, &found[at].stat, AT_SYMLINK_NOFOLLOW) == 0;
        Py_END_ALLOW_THREADS
        Py_XDECREF(packed);
        packed = PyByteArray_FromStringAndSize(NULL, (Py_ssize_t)needs);
        if (packed == NULL)
            goto failed;
        for (Py_ssize_t at = 0; at < count; at++) {
            const struct found *one = &found[at];
            const struct stat *is = &one->stat;
            if (!one->is_there)
                continue;
            put_entry(PyByteArray_AsString(packed) + used, one, numbers | is->st_ino, seconds, ns);
            PyObject *item = Py_BuildValue("nnKKN", one->position, (Py_ssize_t)used, (unsigned long long)is->st_dev,
                                           (unsigned long long)is->st_ino, version_for_python(version_of(is)));
            if (item == NULL || PyList_Append(list, item) < 0) {
                Py_XDECREF(item);
                goto failed;
            }
            Py_DECREF(item);
            used += size_of(one);
            if (S_ISREG(is->st_mode) && (uint64_t)is->st_size < below)
                expect(self, directory, numbers | is->st_ino, is->st_dev, is->st_ino, one->name, (size_t)one->length);
        }
        position += count;
    } while (used == 0 && count > 0);
    free(found);
    if (PyByteArray_Resize(packed, (Py_ssize_t)used) == 0)
        return Py_BuildValue("NN", packed, list);
    found = NULL;
failed:
    free(found);
    Py_XDECREF(packed);
    Py_XDECREF(list);
    return NULL;
}

static PyMethodDef loop_methods[] = {
    {"next", (PyCFunction)loop_next, METH_VARARGS, NULL},
    {"wake", (PyCFunction)loop_wake, METH_NOARGS, NULL},
    {"admit", (PyCFunction)loop_admit, METH_VARARGS, NULL},
    {"keep", (PyCFunction)loop_keep, METH_VARARGS, NULL},
    {"expect", (PyCFunction)loop_expect, METH_VARARGS, NULL},
    {"unexpect", (PyCFunction)loop_unexpect, METH_VARARGS, NULL},
    {"closed", (PyCFunction)loop_closed, METH_VARARGS, NULL},
    {"entries", (PyCFunction)loop_entries, METH_VARARGS, NULL},
    {"ends", (PyCFunction)loop_ends, METH_VARARGS, NULL},
    {"end", (PyCFunction)loop_end, METH_VARARGS, NULL},
    {"end_all", (PyCFunction)loop_end_all, METH_NOARGS, NULL},
    {"take_opened", (PyCFunction)loop_take_opened, METH_NOARGS, NULL},
    {"take_closed", (PyCFunction)loop_take_closed, METH_NOARGS, NULL},
    {"bare", (PyCFunction)loop_bare, METH_VARARGS, NULL},
    {"answer_acls", (PyCFunction)loop_answer_acls, METH_NOARGS, NULL},
    {"watch_closes", (PyCFunction)loop_watch_closes, METH_VARARGS, NULL},
    {"take_notes", (PyCFunction)loop_take_notes, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef loop_attributes[] = {
    {"has_opened", (getter)loop_has_opened, NULL, NULL, NULL},
    {"noted", (getter)loop_noted, NULL, NULL, NULL},
    {"answered", (getter)loop_answered, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot loop_slots[] = {
    {Py_tp_init, loop_init},
    {Py_tp_dealloc, loop_dealloc},
    {Py_tp_methods, loop_methods},
    {Py_tp_getset, loop_attributes},
    {0, NULL},
};

static PyType_Spec loop_spec = {"ctxfs.fuse.transports.fastpath.Loop", sizeof(Loop), 0, Py_TPFLAGS_DEFAULT, loop_slots};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "fastpath", NULL, -1, NULL, NULL, NULL, NULL, NULL};

/* Incremented with every change of the interface to Python; see `load_fastpath`. */
#define INTERFACE 1

PyMODINIT_FUNC PyInit_fastpath(void) {
    PyObject *made = PyModule_Create(&module);
    if (made == NULL)
        return NULL;
    PyObject *loop = PyType_FromSpec(&loop_spec);
    if (loop == NULL || PyModule_AddObjectRef(made, "Loop", loop) < 0 ||
        PyModule_AddIntConstant(made, "INTERFACE", INTERFACE) < 0)
        Py_CLEAR(made);
    Py_XDECREF(loop);
    return made;
}
