/* The load: a closed loop of keep-alive connections over loopback, one request in flight on each.
 *
 * Asks for /SIZE/NUMBER with NUMBER drawn evenly, renders each URL's request once, and writes a new session
 * number into the Cookie of every request sent. Checks of every answer: status 200, the expected
 * Content-Length, the marker by which the server says "hit", and that the body begins with the path asked
 * for. Prints one JSON object. Not here: priming, and comparing whole bodies (prime.py).
 *
 * Linux only (epoll). Compiled by run.py: cc -O2 -o load load.c
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define REQUEST_BYTES_MAX 2048
#define PATH_BYTES_MAX 32
#define HEAD_BYTES_MAX 8192
#define CONNECTIONS_MAX 1024
#define LATENCY_US_MAX 1000000
#define SESSION_DIGITS 16
#define SILENCE_MS_MAX 5000

struct request {
    char bytes[REQUEST_BYTES_MAX];
    size_t length;
    char path[PATH_BYTES_MAX];
    size_t path_length;
    char *session; /* the digits in the Cookie; NULL without the fields */
};

struct connection {
    int fd;
    struct request *asked;
    uint64_t sent_at_ns;
    size_t received;
    size_t expected; /* head and body; 0 until the head is whole */
    char *buffer;
};

static struct {
    int port, connections, urls, fields;
    int awake; /* look for answers again and again, and never sleep: then no server pays for waking the load */
    double seconds;
    uint64_t requests; /* stop after so many instead of after `seconds`; 0: no such end */
    size_t size;
    const char *hit, *extra; /* what marks a hit; one more field of every request, without its CRLF */
} options = {.connections = 32, .urls = 1000, .seconds = 5, .size = 1024, .hit = "", .extra = ""};

static struct {
    uint64_t sent, answered, bytes, wrong_status, wrong_length, wrong_body, not_hit;
    uint32_t latency_us[LATENCY_US_MAX + 1];
} tally;

static struct request *requests;
static uint64_t random_state = 0x9e3779b97f4a7c15u;

static void die(const char *what) {
    fprintf(stderr, "load: %s: %s\n", what, errno ? strerror(errno) : "unexpected");
    exit(1);
}

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t next_random(void) { /* xorshift64 (Marsaglia 2003) */
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

/* The ten fields that a browser sends beside Host when a page asks for a picture. */
static const char BROWSER_FIELDS[] =
    "Connection: keep-alive\r\n"
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/126.0.0.0 Safari/537.36\r\n"
    "Accept: image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8\r\n"
    "Sec-Fetch-Site: same-origin\r\n"
    "Sec-Fetch-Mode: no-cors\r\n"
    "Sec-Fetch-Dest: image\r\n"
    "Referer: http://bench.example/articles/a-page-with-pictures\r\n"
    "Accept-Encoding: gzip, deflate, br, zstd\r\n"
    "Accept-Language: en-GB,en;q=0.9,de;q=0.8\r\n"
    "Cookie: theme=dark; consent=1; session=0000000000000000; visits=17\r\n";

static void render_requests(void) {
    requests = calloc((size_t)options.urls, sizeof *requests);
    if (!requests) die("memory");
    for (int i = 0; i < options.urls; i++) {
        struct request *r = &requests[i];
        r->path_length = (size_t)snprintf(r->path, sizeof r->path, "/%zu/%06d", options.size, i);
        r->length = (size_t)snprintf(r->bytes, sizeof r->bytes, "GET %s HTTP/1.1\r\nHost: bench.example\r\n%s%s%s\r\n",
                                     r->path, options.fields ? BROWSER_FIELDS : "", options.extra,
                                     *options.extra ? "\r\n" : "");
        if (r->length >= sizeof r->bytes) die("request too long");
        char *found = strstr(r->bytes, "session=");
        r->session = found ? found + strlen("session=") : NULL;
    }
}

static int done(uint64_t end_ns) {
    if (options.requests) return tally.sent >= options.requests;
    return now_ns() >= end_ns;
}

static void send_next(struct connection *c) {
    struct request *r = &requests[next_random() % (uint64_t)options.urls];
    if (r->session) {
        uint64_t session = next_random();
        for (int i = 0; i < SESSION_DIGITS; i++, session >>= 4) r->session[i] = "0123456789abcdef"[session & 15];
    }
    c->asked = r;
    c->received = c->expected = 0;
    c->sent_at_ns = now_ns();
    if (send(c->fd, r->bytes, r->length, MSG_NOSIGNAL) != (ssize_t)r->length) die("send");
    tally.sent++;
}

/* Find the end of the head and judge it; returns 0 while the head is not whole. */
static int judge_head(struct connection *c) {
    char *end = memmem(c->buffer, c->received, "\r\n\r\n", 4);
    if (!end) {
        if (c->received >= HEAD_BYTES_MAX) die("response head too long");
        return 0;
    }
    end[3] = 0; /* the head as a string, its last CRLF kept but for the LF */
    size_t head_bytes = (size_t)(end + 4 - c->buffer);
    if (strncmp(c->buffer, "HTTP/1.1 200 ", 13) != 0) tally.wrong_status++;
    char *length = strcasestr(c->buffer, "\r\ncontent-length:");
    if (!length) die("response without Content-Length");
    size_t body_bytes = strtoul(length + strlen("\r\ncontent-length:"), NULL, 10);
    if (body_bytes != options.size) tally.wrong_length++;
    if (!strstr(c->buffer, options.hit)) tally.not_hit++;
    c->expected = head_bytes + body_bytes;
    return 1;
}

/* Take what has come; returns 1 when the answer is whole. */
static int receive(struct connection *c) {
    size_t room = HEAD_BYTES_MAX + options.size - c->received;
    ssize_t n = recv(c->fd, c->buffer + c->received, room, 0);
    if (n < 0 && errno == EAGAIN) return 0;
    if (n < 0) die("recv");
    if (n == 0) die("server closed a kept-alive connection");
    c->received += (size_t)n;
    if (!c->expected && !judge_head(c)) return 0;
    if (c->received < c->expected) return 0;
    if (c->received > c->expected) die("more bytes than the response has");
    if (memcmp(c->buffer + c->expected - options.size, c->asked->path, c->asked->path_length) != 0) tally.wrong_body++;
    uint64_t us = (now_ns() - c->sent_at_ns) / 1000;
    tally.latency_us[us < LATENCY_US_MAX ? us : LATENCY_US_MAX]++;
    tally.answered++;
    tally.bytes += c->received;
    return 1;
}

static void open_connection(struct connection *c) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)options.port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int one = 1;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&to, sizeof to) < 0) die("connect");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    c->buffer = malloc(HEAD_BYTES_MAX + options.size + 1);
    if (!c->buffer) die("memory");
}

static uint64_t percentile_us(double share) {
    uint64_t wanted = (uint64_t)(share * (double)tally.answered), seen = 0;
    for (uint64_t us = 0; us <= LATENCY_US_MAX; us++)
        if ((seen += tally.latency_us[us]) > wanted) return us;
    return LATENCY_US_MAX;
}

static void report(double seconds) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    double cpu_s = (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
                   (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
    printf("{\"requests\": %lu, \"seconds\": %.6f, \"bytes\": %lu, \"wrong_status\": %lu, \"wrong_length\": %lu, "
           "\"wrong_body\": %lu, \"not_hit\": %lu, \"latency_us_p50\": %lu, \"latency_us_p99\": %lu, "
           "\"load_cpu_s\": %.6f}\n",
           tally.answered, seconds, tally.bytes, tally.wrong_status, tally.wrong_length, tally.wrong_body,
           tally.not_hit, percentile_us(0.50), percentile_us(0.99), cpu_s);
}

static void parse_options(int argc, char **argv) {
    for (int i = 1; i + 1 < argc; i += 2) {
        const char *name = argv[i], *value = argv[i + 1];
        if (!strcmp(name, "--port")) options.port = atoi(value);
        else if (!strcmp(name, "--connections")) options.connections = atoi(value);
        else if (!strcmp(name, "--seconds")) options.seconds = atof(value);
        else if (!strcmp(name, "--requests")) options.requests = strtoull(value, NULL, 10);
        else if (!strcmp(name, "--size")) options.size = strtoul(value, NULL, 10);
        else if (!strcmp(name, "--urls")) options.urls = atoi(value);
        else if (!strcmp(name, "--fields")) options.fields = atoi(value);
        else if (!strcmp(name, "--awake")) options.awake = atoi(value);
        else if (!strcmp(name, "--hit")) options.hit = value;
        else if (!strcmp(name, "--extra")) options.extra = value;
        else { fprintf(stderr, "load: unknown option %s\n", name); exit(2); }
    }
    if (options.connections < 1 || options.connections > CONNECTIONS_MAX) die("--connections");
    if (options.port <= 0 || options.urls < 1) die("--port and --urls");
}

int main(int argc, char **argv) {
    parse_options(argc, argv);
    render_requests();
    static struct connection connections[CONNECTIONS_MAX];
    int poll = epoll_create1(EPOLL_CLOEXEC), open = options.connections;
    if (poll < 0) die("epoll_create1");
    for (int i = 0; i < options.connections; i++) {
        open_connection(&connections[i]);
        struct epoll_event on = {.events = EPOLLIN, .data.ptr = &connections[i]};
        if (epoll_ctl(poll, EPOLL_CTL_ADD, connections[i].fd, &on) < 0) die("epoll_ctl");
    }
    uint64_t start_ns = now_ns(), end_ns = start_ns + (uint64_t)(options.seconds * 1e9);
    for (int i = 0; i < options.connections; i++) send_next(&connections[i]);
    uint64_t heard_ns = start_ns;
    while (open > 0) {
        struct epoll_event events[CONNECTIONS_MAX];
        int n = epoll_wait(poll, events, CONNECTIONS_MAX, options.awake ? 0 : SILENCE_MS_MAX);
        if (n < 0) die("epoll_wait");
        if (n > 0) heard_ns = now_ns();
        else if (now_ns() - heard_ns >= SILENCE_MS_MAX * 1000000ull) die("the server has been silent for too long");
        for (int i = 0; i < n; i++) {
            struct connection *c = events[i].data.ptr;
            if (!receive(c)) continue;
            if (!done(end_ns)) send_next(c);
            else {
                close(c->fd);
                open--;
            }
        }
    }
    report((double)(now_ns() - start_ns) / 1e9);
    return 0;
}
