/* Predictions of a running AlphaPlus appliance, read from its shared-memory file (server.shared_memory).
 *
 *     alphaplus_reader reader;
 *     alphaplus_snapshot now;
 *     if (alphaplus_open(&reader, "/dev/shm/alphaplus") == ALPHAPLUS_OK) {
 *         int64_t slot = alphaplus_find(&reader, "BTCUSDT", "1h", "btc-1h-lstm");
 *         if (slot >= 0 && alphaplus_read(&reader, (uint32_t)slot, &now) == ALPHAPLUS_OK
 *             && now.state == ALPHAPLUS_PREDICTION && !alphaplus_stale(&reader, &now))
 *             use(now.value);
 *     }
 *
 * C11 or C++11, Linux, x86_64 and aarch64, nothing to link. A reader may be used by many threads at once. Nothing here
 * allocates; a read is a memory read and one look at the clock, and a system call only when the writer is late.
 *
 * The file, version 3 (1 had no confidence and no interval; 2 had the version in the name of the model and not in the
 * slot); this is the one place that describes it, and the offsets below are compared with the writer's when it is built. Everything is a little-endian word of 8 bytes unless said, times are ns since 1970.
 *
 *     header             256 bytes, then `slots` slots of 384 bytes each
 *
 *     A slot belongs to one stream and one deployed model from the moment that `used` counts it and is never given to
 *     another; when another version takes over, it answers in the same slot.
 *     Its key (symbol, timeframe, model) doesn't change. Words 0 to 23 are under the slot's sequence lock: `sequence` is
 *     odd while they are written and grows by 2 with each change. `check` folds them for readers whose language has
 *     no memory fences: c = sequence; then for each of words 1 to 22: c = (rotl(c, 5) ^ word) * ALPHAPLUS_FOLD mod 2^64.
 *
 *     A file is never changed in its size or given to another writer: a restarted appliance puts a new file in its
 *     place and marks the old one closed. On ALPHAPLUS_CLOSED or ALPHAPLUS_DEAD: close, and open again.
 *
 *     Whoever may write in the file's folder can put a file there: choose a folder of the appliance's user.
 */
#ifndef ALPHAPLUS_H
#define ALPHAPLUS_H

/* With -std=c11 include this header before others, or define it yourself. */
#if !defined(_POSIX_C_SOURCE) && !defined(_GNU_SOURCE)
#define _POSIX_C_SOURCE 200809L
#endif

/* The bytes "ALPHASHM". */
#define ALPHAPLUS_MAGIC 5568792479094819905
#define ALPHAPLUS_VERSION 3
#define ALPHAPLUS_HEADER_BYTES 256
#define ALPHAPLUS_SLOT_BYTES 384
#define ALPHAPLUS_SLOTS_MAX 4194304
#define ALPHAPLUS_FOLD 11400714819323198485u
/* The writer beats at least every 100 ms. */
#define ALPHAPLUS_BEAT_NS 100000000
/* Later than this, readers look whether its process is there; */
#define ALPHAPLUS_LATE_NS 250000000
/* later than this, it is dead. */
#define ALPHAPLUS_DEAD_NS 1000000000

/* Offsets in the header. */
#define ALPHAPLUS_AT_MAGIC 0
#define ALPHAPLUS_AT_VERSION 8 /* u32 */
#define ALPHAPLUS_AT_HEADER_BYTES 12 /* u32 */
#define ALPHAPLUS_AT_SLOT_BYTES 16 /* u32 */
#define ALPHAPLUS_AT_SLOTS 20 /* u32 */
#define ALPHAPLUS_AT_FILE_BYTES 24
#define ALPHAPLUS_AT_PID 32
#define ALPHAPLUS_AT_START_TICKS 40 /* field 22 of /proc/PID/stat; 0: unknown */
#define ALPHAPLUS_AT_PID_NAMESPACE 48 /* inode of /proc/self/ns/pid; 0: unknown */
#define ALPHAPLUS_AT_CREATED 56
#define ALPHAPLUS_AT_CLOCK 64 /* by which predictions go stale: 0 the wall clock, 1 feed_time */
#define ALPHAPLUS_AT_BEAT_MONOTONIC 128 /* CLOCK_MONOTONIC */
#define ALPHAPLUS_AT_BEAT_WALL 136
#define ALPHAPLUS_AT_USED 192 /* slots that have a key */
#define ALPHAPLUS_AT_CLOSED 200 /* 1: the writer has ended in order */
#define ALPHAPLUS_AT_DURABLE_SEQ 208 /* predictions up to here survive power loss */
#define ALPHAPLUS_AT_FEED_TIME 216 /* the newest bar's close */
#define ALPHAPLUS_AT_REFUSED 224 /* streams that have no slot: names too long, or the table full */

/* Offsets in a slot. */
#define ALPHAPLUS_AT_SEQUENCE 0
#define ALPHAPLUS_AT_STATE 8
#define ALPHAPLUS_AT_SEQ 16 /* of the prediction or abstention */
#define ALPHAPLUS_AT_DURABLE_SEQ_THEN 24 /* durable_seq when this was written */
#define ALPHAPLUS_AT_VALUE 32 /* f64 */
#define ALPHAPLUS_AT_VALID_UNTIL 40
#define ALPHAPLUS_AT_MADE_AT 48
#define ALPHAPLUS_AT_OPEN_TIME 56
#define ALPHAPLUS_AT_CLOSE_TIME 64
#define ALPHAPLUS_AT_HORIZON_BARS 72
#define ALPHAPLUS_AT_HAVE 80 /* of a warm-up, bars */
#define ALPHAPLUS_AT_NEED 88
#define ALPHAPLUS_AT_REVISION 96
#define ALPHAPLUS_AT_FLAGS 104 /* 1 provisional, 2 recovered, 4 revised, 8 shadow: beside the one that polls get */
#define ALPHAPLUS_AT_CAUSE 112 /* of an abstention: 1 the plugin, 2 not a finite number */
#define ALPHAPLUS_AT_LABEL 120 /* 24 bytes, padded with 0 */
#define ALPHAPLUS_AT_MODEL_VERSION 144 /* which version of the model says so */
#define ALPHAPLUS_AT_CONFIDENCE 152 /* f64, 0 to 1; NaN, as the next three: the model isn't calibrated */
#define ALPHAPLUS_AT_LOW 160 /* f64, of the interval, in the unit of the value */
#define ALPHAPLUS_AT_HIGH 168 /* f64 */
#define ALPHAPLUS_AT_LEVEL 176 /* f64, the share of realised values that such intervals are to hold */
#define ALPHAPLUS_AT_CHECK 184
#define ALPHAPLUS_AT_LENGTHS 192 /* u8 each: symbol, timeframe, model */
#define ALPHAPLUS_AT_TIMEFRAME_SECONDS 200
#define ALPHAPLUS_AT_TIMEFRAME 208 /* 16 bytes */
#define ALPHAPLUS_AT_SYMBOL 224 /* 32 bytes */
#define ALPHAPLUS_AT_MODEL 256 /* 128 bytes, as deployed: name@alias, name/version or name */

/* States of a slot. */
#define ALPHAPLUS_EMPTY 0
#define ALPHAPLUS_PREDICTION 1
#define ALPHAPLUS_WARMING 2
#define ALPHAPLUS_ABSTAINED 3
#define ALPHAPLUS_QUARANTINED 4

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#ifdef __cplusplus
#include <atomic>
#define ALPHAPLUS_LOAD(p) (reinterpret_cast<const std::atomic<uint64_t> *>(p)->load(std::memory_order_relaxed))
#define ALPHAPLUS_FENCE() std::atomic_thread_fence(std::memory_order_acquire)
extern "C" {
#else
#include <stdatomic.h>
#define ALPHAPLUS_LOAD(p) atomic_load_explicit((const _Atomic uint64_t *)(p), memory_order_relaxed)
#define ALPHAPLUS_FENCE() atomic_thread_fence(memory_order_acquire)
#endif

typedef enum {
    ALPHAPLUS_OK = 0,
    ALPHAPLUS_CLOSED = 1,    /* the appliance has ended: open again */
    ALPHAPLUS_DEAD = 2,      /* it was killed or hangs: open again */
    ALPHAPLUS_TORN = 3,      /* it was in the middle of a write for too long: read again */
    ALPHAPLUS_OTHER = 4,     /* the file has another layout version */
    ALPHAPLUS_TRUNCATED = 5, /* the file is shorter than it says */
    ALPHAPLUS_FOREIGN = 6,   /* not a file of AlphaPlus, or damaged */
    ALPHAPLUS_NO_SLOT = 7,   /* there is no such slot */
    ALPHAPLUS_IO = 8         /* errno says why */
} alphaplus_result;

typedef struct {
    const unsigned char *file;
    size_t bytes;
    uint32_t slots;
    uint64_t pid;
    uint64_t start_ticks;
    int same_namespace;
} alphaplus_reader;

typedef struct {
    uint64_t state; /* ALPHAPLUS_PREDICTION and so on */
    uint64_t seq;
    uint64_t durable_seq; /* when it was written; alphaplus_durable_seq() has the newest */
    double value;
    int64_t valid_until_ns, made_at_ns, open_time_ns, close_time_ns;
    uint64_t horizon_bars, have, need, revision, flags, cause;
    char label[25];
    uint64_t model_version;
    double confidence, low, high, level; /* NaN: the model isn't calibrated */
} alphaplus_snapshot;

static inline uint64_t alphaplus_word(const alphaplus_reader *reader, size_t at) {
    return ALPHAPLUS_LOAD(reader->file + at);
}

static inline const unsigned char *alphaplus_slot(const alphaplus_reader *reader, uint32_t slot) {
    return reader->file + ALPHAPLUS_HEADER_BYTES + (size_t)slot * ALPHAPLUS_SLOT_BYTES;
}

static inline uint32_t alphaplus_u32(const unsigned char *p) {
    uint32_t value;
    memcpy(&value, p, sizeof value);
    return value;
}

static inline int64_t alphaplus_clock_ns(clockid_t clock) {
    struct timespec t;
    return clock_gettime(clock, &t) == 0 ? (int64_t)t.tv_sec * 1000000000 + t.tv_nsec : 0;
}

static inline void alphaplus_close(alphaplus_reader *reader) {
    if (reader->file)
        munmap((void *)reader->file, reader->bytes);
    reader->file = NULL;
    reader->slots = 0;
}

/* Opens the file; on an error there is nothing to close. */
static inline alphaplus_result alphaplus_open(alphaplus_reader *reader, const char *path) {
    struct stat about;
    alphaplus_result wrong = ALPHAPLUS_OK;
    void *map;
    int file = open(path, O_RDONLY | O_CLOEXEC);
    memset(reader, 0, sizeof *reader);
    if (file < 0)
        return ALPHAPLUS_IO;
    if (fstat(file, &about) != 0) {
        close(file);
        return ALPHAPLUS_IO;
    }
    if (about.st_size < ALPHAPLUS_HEADER_BYTES) {
        close(file);
        return ALPHAPLUS_TRUNCATED;
    }
    map = mmap(NULL, (size_t)about.st_size, PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (map == MAP_FAILED)
        return ALPHAPLUS_IO;
    reader->file = (const unsigned char *)map;
    reader->bytes = (size_t)about.st_size;
    reader->slots = alphaplus_u32(reader->file + ALPHAPLUS_AT_SLOTS);
    if (alphaplus_word(reader, ALPHAPLUS_AT_MAGIC) != ALPHAPLUS_MAGIC)
        wrong = ALPHAPLUS_FOREIGN;
    else if (alphaplus_u32(reader->file + ALPHAPLUS_AT_VERSION) != ALPHAPLUS_VERSION)
        wrong = ALPHAPLUS_OTHER;
    else if (alphaplus_u32(reader->file + ALPHAPLUS_AT_HEADER_BYTES) != ALPHAPLUS_HEADER_BYTES
             || alphaplus_u32(reader->file + ALPHAPLUS_AT_SLOT_BYTES) != ALPHAPLUS_SLOT_BYTES
             || reader->slots > ALPHAPLUS_SLOTS_MAX
             || alphaplus_word(reader, ALPHAPLUS_AT_FILE_BYTES)
                    != ALPHAPLUS_HEADER_BYTES + (uint64_t)reader->slots * ALPHAPLUS_SLOT_BYTES)
        wrong = ALPHAPLUS_FOREIGN;
    else if (reader->bytes < ALPHAPLUS_HEADER_BYTES + (uint64_t)reader->slots * ALPHAPLUS_SLOT_BYTES)
        wrong = ALPHAPLUS_TRUNCATED;
    if (wrong != ALPHAPLUS_OK) {
        alphaplus_close(reader);
        return wrong;
    }
    reader->pid = alphaplus_word(reader, ALPHAPLUS_AT_PID);
    reader->start_ticks = alphaplus_word(reader, ALPHAPLUS_AT_START_TICKS);
    reader->same_namespace = stat("/proc/self/ns/pid", &about) == 0
                             && (uint64_t)about.st_ino == alphaplus_word(reader, ALPHAPLUS_AT_PID_NAMESPACE);
    return ALPHAPLUS_OK;
}

/* Whether the writer's process is gone for certain. */
static inline int alphaplus_gone(const alphaplus_reader *reader) {
    char path[40], text[1024], *field;
    ssize_t length;
    int file, i;
    if (!reader->same_namespace || reader->pid == 0 || reader->pid > INT_MAX)
        return 0;
    if (kill((pid_t)reader->pid, 0) != 0 && errno == ESRCH)
        return 1;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)reader->pid);
    file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return 0;
    length = read(file, text, sizeof text - 1);
    close(file);
    if (length <= 0)
        return 0;
    text[length] = 0;
    field = strrchr(text, ')'); /* the name before it may hold anything */
    if (!field || field[1] != ' ')
        return 0;
    field += 2; /* field 3, the state */
    if (*field == 'Z' || *field == 'X')
        return 1;
    for (i = 3; i < 22 && field; i++) {
        field = strchr(field, ' ');
        if (field)
            field++;
    }
    return field && reader->start_ticks != 0 && strtoull(field, NULL, 10) != reader->start_ticks;
}

/* ALPHAPLUS_OK, ALPHAPLUS_CLOSED or ALPHAPLUS_DEAD. */
static inline alphaplus_result alphaplus_alive(const alphaplus_reader *reader) {
    int64_t now, beat;
    uint64_t age;
    if (alphaplus_word(reader, ALPHAPLUS_AT_CLOSED) != 0)
        return ALPHAPLUS_CLOSED;
    beat = (int64_t)alphaplus_word(reader, ALPHAPLUS_AT_BEAT_MONOTONIC);
    now = alphaplus_clock_ns(CLOCK_MONOTONIC);
    /* A beat in the future is of another boot. */
    age = now >= beat ? (uint64_t)now - (uint64_t)beat : (uint64_t)beat - (uint64_t)now;
    if (age <= ALPHAPLUS_LATE_NS)
        return ALPHAPLUS_OK;
    return age > ALPHAPLUS_DEAD_NS || alphaplus_gone(reader) ? ALPHAPLUS_DEAD : ALPHAPLUS_OK;
}

static inline int alphaplus_text_is(const unsigned char *text, size_t length, const char *wanted, size_t wanted_length) {
    return length == wanted_length && memcmp(text, wanted, length) == 0;
}

/* The slot of a symbol, a timeframe as replies write it ("1h") and a model as it is deployed ("name@alias", "name/version"
 * or "name"), or "name" for the first of that name. -1: none yet; a stream gets its slot with its first bar. */
static inline int64_t alphaplus_find(const alphaplus_reader *reader, const char *symbol, const char *timeframe,
                                     const char *model) {
    size_t symbol_length = strlen(symbol), timeframe_length = strlen(timeframe), model_length = strlen(model), length;
    uint64_t used = alphaplus_word(reader, ALPHAPLUS_AT_USED);
    uint32_t i;
    ALPHAPLUS_FENCE();
    for (i = 0; i < reader->slots && i < used; i++) {
        const unsigned char *slot = alphaplus_slot(reader, i);
        const unsigned char *name = slot + ALPHAPLUS_AT_MODEL;
        const unsigned char *lengths = slot + ALPHAPLUS_AT_LENGTHS;
        if (lengths[0] > 32 || lengths[1] > 16 || lengths[2] > 128)
            continue;
        if (!alphaplus_text_is(slot + ALPHAPLUS_AT_SYMBOL, lengths[0], symbol, symbol_length)
            || !alphaplus_text_is(slot + ALPHAPLUS_AT_TIMEFRAME, lengths[1], timeframe, timeframe_length))
            continue;
        if (alphaplus_text_is(name, lengths[2], model, model_length))
            return i;
        for (length = 0; length < lengths[2] && name[length] != '/' && name[length] != '@'; length++)
            ;
        if (alphaplus_text_is(name, length, model, model_length))
            return i;
    }
    return -1;
}

/* What a slot says now. */
static inline alphaplus_result alphaplus_read(const alphaplus_reader *reader, uint32_t slot, alphaplus_snapshot *out) {
    const unsigned char *at;
    uint64_t words[ALPHAPLUS_AT_CHECK / 8], before, after;
    alphaplus_result alive = alphaplus_alive(reader);
    int attempt, i;
    if (alive != ALPHAPLUS_OK)
        return alive;
    if (slot >= reader->slots)
        return ALPHAPLUS_NO_SLOT;
    at = alphaplus_slot(reader, slot);
    for (attempt = 0; attempt < 10000; attempt++) {
        before = ALPHAPLUS_LOAD(at);
        ALPHAPLUS_FENCE();
        for (i = 1; i < ALPHAPLUS_AT_CHECK / 8; i++)
            words[i] = ALPHAPLUS_LOAD(at + 8 * i);
        ALPHAPLUS_FENCE();
        after = ALPHAPLUS_LOAD(at);
        if (before == after && before % 2 == 0) {
            out->state = words[ALPHAPLUS_AT_STATE / 8];
            out->seq = words[ALPHAPLUS_AT_SEQ / 8];
            out->durable_seq = words[ALPHAPLUS_AT_DURABLE_SEQ_THEN / 8];
            memcpy(&out->value, &words[ALPHAPLUS_AT_VALUE / 8], 8);
            out->valid_until_ns = (int64_t)words[ALPHAPLUS_AT_VALID_UNTIL / 8];
            out->made_at_ns = (int64_t)words[ALPHAPLUS_AT_MADE_AT / 8];
            out->open_time_ns = (int64_t)words[ALPHAPLUS_AT_OPEN_TIME / 8];
            out->close_time_ns = (int64_t)words[ALPHAPLUS_AT_CLOSE_TIME / 8];
            out->horizon_bars = words[ALPHAPLUS_AT_HORIZON_BARS / 8];
            out->have = words[ALPHAPLUS_AT_HAVE / 8];
            out->need = words[ALPHAPLUS_AT_NEED / 8];
            out->revision = words[ALPHAPLUS_AT_REVISION / 8];
            out->flags = words[ALPHAPLUS_AT_FLAGS / 8];
            out->cause = words[ALPHAPLUS_AT_CAUSE / 8];
            memcpy(out->label, &words[ALPHAPLUS_AT_LABEL / 8], 24);
            out->label[24] = 0;
            out->model_version = words[ALPHAPLUS_AT_MODEL_VERSION / 8];
            memcpy(&out->confidence, &words[ALPHAPLUS_AT_CONFIDENCE / 8], 8);
            memcpy(&out->low, &words[ALPHAPLUS_AT_LOW / 8], 8);
            memcpy(&out->high, &words[ALPHAPLUS_AT_HIGH / 8], 8);
            memcpy(&out->level, &words[ALPHAPLUS_AT_LEVEL / 8], 8);
            return out->state > ALPHAPLUS_QUARANTINED ? ALPHAPLUS_FOREIGN : ALPHAPLUS_OK;
        }
    }
    return alphaplus_gone(reader) ? ALPHAPLUS_DEAD : ALPHAPLUS_TORN;
}

/* Predictions with a `seq` up to here survive power loss. */
static inline uint64_t alphaplus_durable_seq(const alphaplus_reader *reader) {
    return alphaplus_word(reader, ALPHAPLUS_AT_DURABLE_SEQ);
}

/* Whether the prediction isn't valid any more, by the clock that the appliance goes by (serving.clock). */
static inline int alphaplus_stale(const alphaplus_reader *reader, const alphaplus_snapshot *snapshot) {
    int64_t now = alphaplus_word(reader, ALPHAPLUS_AT_CLOCK) == 1
                      ? (int64_t)alphaplus_word(reader, ALPHAPLUS_AT_FEED_TIME)
                      : alphaplus_clock_ns(CLOCK_REALTIME);
    return now > snapshot->valid_until_ns;
}

#ifdef __cplusplus
}
#endif
#endif
