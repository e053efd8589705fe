/* load URL [OPTIONS]: keeps a LUN busy through libiscsi, and checks what it reads; told what to do on standard input.
 *
 * build: cc -O2 -o load load.c -liscsi -lpthread
 *
 *   --sessions N    each with a connection of its own (1)
 *   --threads N     which the sessions are spread over (1); one does some 130,000 reads of 4 KiB in a second
 *   --depth N       reads and writes that one session keeps under way (1)
 *   --block BYTES   of one read or write (4096)
 *   --reads PERCENT how many of a hundred are reads (100)
 *   --sequential    one behind the other, each session in a part of its own; else all over the span
 *   --span BYTES    of the LUN, from its beginning (all of it)
 *   --digests       demand CRC32C for headers (libiscsi knows none for data)
 *   --key N         what is written this time, 0 to 255
 *   --sparse        what was never written may be zeros
 *
 * It says {"ready": ...} when all sessions are logged in. Then a line asks, and a line of JSON answers:
 *   fill            write the whole span
 *   run SECONDS     the load; of every 512 bytes read eight are compared
 *   check           read the whole span, compare every byte, and that what was written here holds the key
 * The end of the input logs out, {"left": ...}. Exit 0 done; 2 it could not begin; 3 a read or write failed, or none ended in 10 s.
 *
 * The content: every eight bytes hold a number made from their place, exclusive-or the key. A block that is damaged, in
 * a wrong place or older than the last write is found out; with key 0 `vmthunder iscsi bench --verify` knows it, too.
 */
#define _GNU_SOURCE
#include <endian.h>
#include <errno.h>
#include <getopt.h>
#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { STEPS = 64, BUCKETS = 60 * STEPS, SAMPLE = 512, KEYS = 256, STALL_MS = 10000 };

static const char *url;
static int sessions = 1, threads = 1, depth = 1, reads = 100, digests, sequential, sparse;
static uint64_t block = 4096, span, key;

static uint8_t *content;         /* the span as this run writes it; only where something is written */
static _Atomic uint8_t *written; /* per block: what was written here */
static uint64_t deadline;        /* when nothing more is begun */

/* What the lanes do at the moment. */
static enum { FILL, RUN, CHECK } mode;
static _Atomic uint64_t next_block, checked, wrong, wrong_at;

struct thread {
    pthread_t id;
    int first, count;
    uint64_t random, ops, buckets[BUCKETS], longest;
};
struct session {
    struct iscsi_context *iscsi;
    struct thread *thread;
    struct lane *lanes;
    int lun, block_length, under_way;
    uint64_t first, next; /* of its own part, in blocks */
};
struct lane {
    struct session *session;
    struct scsi_iovec iov;
    uint8_t *buffer;
    uint64_t at, begun;
    bool is_read;
};
static struct session *all;

static _Noreturn void fail(int code, const char *what, const char *why) {
    fprintf(stderr, "load: %s: %s\n", what, why);
    _exit(code);
}
static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ull + t.tv_nsec;
}

/* Content. */
static uint64_t word_at(uint64_t place) {
    uint64_t word = (place + 1) * 0x9e3779b97f4a7c15ull;
    word ^= word >> 32;
    word *= 0xd6e8feb86659fd93ull;
    return word ^ word >> 32;
}
static uint64_t load_word(const uint8_t *from) {
    uint64_t word;
    memcpy(&word, from, 8);
    return le64toh(word);
}
static void complain(uint64_t at) {
    uint64_t none = UINT64_MAX;
    atomic_fetch_add(&wrong, 1);
    atomic_compare_exchange_strong(&wrong_at, &none, at);
}
/* Every byte of 512: what was written since the start must be of this key, the rest of one key throughout. */
static bool is_right(const uint8_t *bytes, uint64_t at, bool here) {
    uint64_t is_key = load_word(bytes) ^ word_at(at);
    bool zeros = sparse && !here && load_word(bytes) == 0;
    if (here ? is_key != key : !zeros && is_key >= KEYS) return false;
    for (uint64_t i = 0; i < SAMPLE; i += 8)
        if (load_word(bytes + i) != (zeros ? 0 : word_at(at + i) ^ is_key)) return false;
    return true;
}
static void check_block(const uint8_t *bytes, uint64_t at) {
    bool here = written && atomic_load(&written[at / block]);
    for (uint64_t i = 0; i < block; i += SAMPLE)
        if (!is_right(bytes + i, at + i, here)) {
            complain(at + i);
            return;
        }
}
/* A word of each 512 bytes: writes may be under way, so any key will do. */
static void sample_block(const uint8_t *bytes, uint64_t at) {
    uint64_t skip = at / block * 8 % SAMPLE;
    for (uint64_t i = skip; i < block; i += SAMPLE) {
        uint64_t word = load_word(bytes + i);
        if ((word ^ word_at(at + i)) >= KEYS && !(sparse && word == 0)) {
            complain(at + i);
            return;
        }
    }
}

/* Latencies: 64 steps for each power of two of nanoseconds. */
static int bucket_of(uint64_t value) {
    if (value < STEPS) return (int)value;
    int shift = 63 - __builtin_clzll(value) - 6;
    int bucket = (shift + 1) * STEPS + (int)((value >> shift) - STEPS);
    return bucket < BUCKETS ? bucket : BUCKETS - 1;
}
static double microseconds_of(int bucket) {
    int shift = bucket < STEPS ? 0 : bucket / STEPS - 1;
    uint64_t value = bucket < STEPS ? (uint64_t)bucket : ((uint64_t)(bucket % STEPS) + STEPS) << shift;
    return value / 1e3;
}
static double quantile(const uint64_t *buckets, uint64_t total, double part) {
    uint64_t rank = (uint64_t)(part * total), sum = 0;
    for (int i = 0; i < BUCKETS; i++)
        if ((sum += buckets[i]) > rank) return microseconds_of(i);
    return 0;
}
static uint64_t random_number(struct thread *thread) { /* xorshift64* */
    thread->random ^= thread->random >> 12;
    thread->random ^= thread->random << 25;
    thread->random ^= thread->random >> 27;
    return thread->random * 0x2545f4914f6cdd1dull >> 16;
}

/* The lanes. */
static void begin(struct lane *lane);

static void ended(struct iscsi_context *iscsi, int status, void *task, void *private) {
    struct lane *lane = private;
    struct thread *thread = lane->session->thread;
    if (status != SCSI_STATUS_GOOD) fail(3, lane->is_read ? "a read failed" : "a write failed", iscsi_get_error(iscsi));
    uint64_t took = now() - lane->begun;
    thread->ops++;
    thread->buckets[bucket_of(took)]++;
    if (took > thread->longest) thread->longest = took;
    if (lane->is_read && mode == CHECK) {
        check_block(lane->buffer, lane->at);
        atomic_fetch_add(&checked, block);
    } else if (lane->is_read) {
        sample_block(lane->buffer, lane->at);
    } else {
        atomic_store(&written[lane->at / block], 1);
    }
    scsi_free_scsi_task(task);
    lane->session->under_way--;
    begin(lane);
}
/* Begins the lane's next read or write, if there is one. */
static void begin(struct lane *lane) {
    struct session *session = lane->session;
    struct thread *thread = session->thread;
    uint64_t blocks = span / block, number;
    lane->begun = now();
    if (mode == RUN) {
        if (lane->begun >= deadline) return;
        number = sequential ? (session->first + session->next++) % blocks : random_number(thread) % blocks;
        lane->is_read = (int)(random_number(thread) % 100) < reads;
    } else {
        number = atomic_fetch_add(&next_block, 1);
        if (number >= blocks) return;
        lane->is_read = mode == CHECK;
    }
    lane->at = number * block;
    lane->iov.iov_base = lane->is_read ? lane->buffer : content + lane->at;
    lane->iov.iov_len = block;
    uint64_t lba = lane->at / session->block_length;
    struct scsi_task *task =
        lane->is_read ? iscsi_read16_iov_task(session->iscsi, session->lun, lba, block, session->block_length, 0, 0, 0, 0,
                                              0, ended, lane, &lane->iov, 1)
                      : iscsi_write16_iov_task(session->iscsi, session->lun, lba, NULL, block, session->block_length, 0,
                                               0, 0, 0, 0, ended, lane, &lane->iov, 1);
    if (!task) fail(3, "cannot begin", iscsi_get_error(session->iscsi));
    session->under_way++;
}
static void *drive(void *argument) {
    struct thread *thread = argument;
    struct session *mine = all + thread->first;
    struct pollfd *polled = calloc(thread->count, sizeof *polled);
    if (!polled) fail(2, "memory", strerror(errno));
    for (int i = 0; i < thread->count; i++)
        for (int k = 0; k < depth; k++) begin(&mine[i].lanes[k]);
    for (;;) {
        int under_way = 0;
        for (int i = 0; i < thread->count; i++) {
            int events = iscsi_which_events(mine[i].iscsi);
            /* Most often the socket takes it at once, and poll needs to wait for answers alone. */
            if (events & POLLOUT && iscsi_service(mine[i].iscsi, POLLOUT) < 0)
                fail(3, "the session broke", iscsi_get_error(mine[i].iscsi));
            polled[i].fd = iscsi_get_fd(mine[i].iscsi);
            polled[i].events = iscsi_which_events(mine[i].iscsi);
            under_way += mine[i].under_way;
        }
        if (!under_way) break;
        int ready = poll(polled, thread->count, STALL_MS);
        if (ready == 0) fail(3, "nothing ended", "10 s without an answer");
        if (ready < 0 && errno != EINTR) fail(3, "poll", strerror(errno));
        for (int i = 0; ready > 0 && i < thread->count; i++)
            if (polled[i].revents && iscsi_service(mine[i].iscsi, polled[i].revents) < 0)
                fail(3, "the session broke", iscsi_get_error(mine[i].iscsi));
    }
    free(polled);
    return NULL;
}

/* Orders. */
static void go(struct thread *of) {
    uint64_t begun = now();
    for (int i = 0; i < threads; i++) {
        of[i].ops = of[i].longest = 0;
        memset(of[i].buckets, 0, sizeof of[i].buckets);
        if (pthread_create(&of[i].id, NULL, drive, &of[i])) fail(2, "cannot start a thread", strerror(errno));
    }
    for (int i = 0; i < threads; i++) pthread_join(of[i].id, NULL);
    double seconds = (now() - begun) / 1e9;
    static uint64_t buckets[BUCKETS];
    uint64_t ops = 0, longest = 0;
    memset(buckets, 0, sizeof buckets);
    for (int i = 0; i < threads; i++) {
        ops += of[i].ops;
        if (of[i].longest > longest) longest = of[i].longest;
        for (int k = 0; k < BUCKETS; k++) buckets[k] += of[i].buckets[k];
    }
    uint64_t writes = 0;
    for (uint64_t i = 0; written && i < span / block; i++) writes += atomic_load(&written[i]);
    printf("{\"seconds\": %.6f, \"ops\": %llu, \"bytes\": %llu, \"p50_us\": %.1f, \"p99_us\": %.1f, \"longest_us\": %.1f, "
           "\"blocks_written\": %llu, \"checked_bytes\": %llu, \"wrong\": %llu, \"wrong_at\": %lld}\n",
           seconds, (unsigned long long)ops, (unsigned long long)(ops * block), quantile(buckets, ops, .5),
           quantile(buckets, ops, .99), longest / 1e3, (unsigned long long)writes,
           (unsigned long long)atomic_load(&checked), (unsigned long long)atomic_load(&wrong),
           (long long)atomic_load(&wrong_at));
    fflush(stdout);
}
static void make_content(void) {
    content = malloc(span);
    written = calloc(span / block, 1);
    if (!content || !written) fail(2, "memory for --span", "none");
    for (uint64_t at = 0; at < span; at += 8) {
        uint64_t word = htole64(word_at(at) ^ key);
        memcpy(content + at, &word, 8);
    }
}
static void obey(struct thread *of) {
    char line[64];
    while (fgets(line, sizeof line, stdin)) {
        atomic_store(&next_block, 0);
        atomic_store(&checked, 0);
        if (!strncmp(line, "run ", 4)) {
            mode = RUN;
            deadline = now() + (uint64_t)(strtod(line + 4, NULL) * 1e9);
        } else if (!strcmp(line, "check\n")) {
            mode = CHECK;
        } else if (!strcmp(line, "fill\n")) {
            if (!content) make_content();
            mode = FILL;
        } else {
            fail(2, "unknown order", line);
        }
        go(of);
    }
}

/* The start. */
static void log_in(struct session *session, int number) {
    char name[64];
    snprintf(name, sizeof name, "iqn.2026-11.org.vmthunder:load.%d.%d", (int)getpid(), number);
    session->iscsi = iscsi_create_context(name);
    struct iscsi_url *place = session->iscsi ? iscsi_parse_full_url(session->iscsi, url) : NULL;
    if (!place) fail(2, url, session->iscsi ? iscsi_get_error(session->iscsi) : "no memory");
    iscsi_set_session_type(session->iscsi, ISCSI_SESSION_NORMAL);
    iscsi_set_targetname(session->iscsi, place->target);
    iscsi_set_header_digest(session->iscsi, digests ? ISCSI_HEADER_DIGEST_CRC32C : ISCSI_HEADER_DIGEST_NONE);
    iscsi_set_noautoreconnect(session->iscsi, 1);
    iscsi_set_timeout(session->iscsi, 30);
    if (iscsi_full_connect_sync(session->iscsi, place->portal, place->lun))
        fail(2, "cannot log in", iscsi_get_error(session->iscsi));
    session->lun = place->lun;
    iscsi_destroy_url(place);
    iscsi_set_timeout(session->iscsi, 0); /* a timer for each task would be measured, too */
    struct scsi_task *task = iscsi_readcapacity16_sync(session->iscsi, session->lun);
    struct scsi_readcapacity16 *capacity = task ? scsi_datain_unmarshall(task) : NULL;
    if (!capacity) fail(2, "no capacity", iscsi_get_error(session->iscsi));
    session->block_length = capacity->block_length;
    uint64_t size = (capacity->returned_lba + 1) * capacity->block_length;
    scsi_free_scsi_task(task);
    if (!span || span > size) span = size;
    span -= span % block;
    if (!span || block % session->block_length || block % SAMPLE) fail(2, "--block", "does not fit the LUN");
}
static void make_lanes(struct session *session, int number) {
    session->first = span / block / sessions * number;
    session->lanes = calloc(depth, sizeof *session->lanes);
    for (int k = 0; session->lanes && k < depth; k++) {
        session->lanes[k].session = session;
        if (posix_memalign((void **)&session->lanes[k].buffer, 4096, block)) fail(2, "memory", "none");
    }
    if (!session->lanes) fail(2, "memory", "none");
}
static uint64_t number_of(const char *text, uint64_t least, uint64_t most) {
    char *end;
    errno = 0;
    uint64_t number = strtoull(text, &end, 10);
    if (errno || *end || end == text || number < least || number > most) fail(2, "not a number that will do", text);
    return number;
}
static void parse(int count, char **words) {
    static const struct option options[] = {
        {"sessions", 1, 0, 's'}, {"threads", 1, 0, 't'},    {"depth", 1, 0, 'q'}, {"block", 1, 0, 'b'},
        {"reads", 1, 0, 'r'},    {"sequential", 0, 0, 'S'}, {"span", 1, 0, 'l'},  {"digests", 0, 0, 'd'},
        {"key", 1, 0, 'k'},      {"sparse", 0, 0, 'z'},     {0, 0, 0, 0}};
    for (int option; (option = getopt_long(count, words, "", options, NULL)) != -1;) switch (option) {
        case 's': sessions = number_of(optarg, 1, 4096); break;
        case 't': threads = number_of(optarg, 1, 256); break;
        case 'q': depth = number_of(optarg, 1, 4096); break;
        case 'b': block = number_of(optarg, SAMPLE, 16 << 20); break;
        case 'r': reads = number_of(optarg, 0, 100); break;
        case 'S': sequential = 1; break;
        case 'l': span = number_of(optarg, SAMPLE, 1ull << 40); break;
        case 'd': digests = 1; break;
        case 'k': key = number_of(optarg, 0, KEYS - 1); break;
        case 'z': sparse = 1; break;
        default: exit(2);
        }
    if (optind + 1 != count) fail(2, "usage", "load URL [OPTIONS]; see the head of load.c");
    url = words[optind];
    if (threads > sessions) threads = sessions;
}
int main(int count, char **words) {
    parse(count, words);
    all = calloc(sessions, sizeof *all);
    struct thread *of = calloc(threads, sizeof *of);
    if (!all || !of) fail(2, "memory", "none");
    for (int i = 0; i < sessions; i++) log_in(&all[i], i);
    for (int i = 0; i < sessions; i++) make_lanes(&all[i], i);
    for (int i = 0, first = 0; i < threads; i++) {
        of[i].first = first;
        of[i].count = sessions / threads + (i < sessions % threads);
        of[i].random = 0x9e3779b97f4a7c15ull * (i + 1) ^ now();
        for (int k = 0; k < of[i].count; k++) all[first + k].thread = &of[i];
        first += of[i].count;
    }
    atomic_store(&wrong_at, UINT64_MAX);
    if (reads < 100) make_content();
    printf("{\"ready\": %d, \"span\": %llu}\n", sessions, (unsigned long long)span);
    fflush(stdout);
    obey(of);
    for (int i = 0; i < sessions; i++) iscsi_logout_sync(all[i].iscsi);
    printf("{\"left\": %d}\n", sessions);
    return 0;
}
