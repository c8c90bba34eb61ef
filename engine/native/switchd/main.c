/* The switch process: arguments, set-up, end. */
#include <errno.h>
#include <getopt.h>
#include <malloc.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "switchd.h"

static const char USAGE[] =
    "usage: switchd --control-socket PATH [-i PORT@INTERFACE]... [--load OBJECT] [--cpu-port N] [--pktgen-port N]\n"
    "               [--pktgen-interval-us N] [--pktgen-defer] [--pktgen-relaxed N] [--pcap DIRECTORY] [--pcap-limit-mib N] [--ring-kib N] [--nice N]\n"
    "               [--realtime 0|1] [--cores N] [--log-level error|warning|info|debug] [--ready-fd N]\n";

static long number(const char *text, long low, long high, const char *option)
{
    char *end;
    errno = 0;
    long value = strtol(text, &end, 10);
    if (errno || *end || end == text || value < low || value > high) {
        fprintf(stderr, "switchd: %s: '%s' is not a number from %ld to %ld\n", option, text, low, high);
        exit(2);
    }
    return value;
}

static void set_level(const char *name)
{
    static const char *const names[] = {"error", "warning", "info", "debug", NULL};
    for (int i = 0; names[i]; i++)
        if (strcmp(names[i], name) == 0) {
            log_set_level(i);
            return;
        }
    fprintf(stderr, "switchd: unknown log level '%s'\n", name);
    exit(2);
}

struct arguments {
    const char *socket, *load, *pcap;
    const char *interfaces[MAX_PORTS];
    int count, ready_fd;
    long interval_us, relaxed, nice, cores;
    bool realtime, defer;
};

static void parse_arguments(struct switchd *sw, struct arguments *a, int argc, char **argv)
{
    static const struct option options[] = {
        {"control-socket", required_argument, NULL, 's'}, {"interface", required_argument, NULL, 'i'},
        {"load", required_argument, NULL, 'l'},           {"cpu-port", required_argument, NULL, 'c'},
        {"pktgen-port", required_argument, NULL, 'g'},    {"pktgen-interval-us", required_argument, NULL, 'u'},
        {"pcap", required_argument, NULL, 'p'},           {"ring-kib", required_argument, NULL, 'r'},
        {"nice", required_argument, NULL, 'n'},           {"log-level", required_argument, NULL, 'v'},
        {"pcap-limit-mib", required_argument, NULL, 'm'},
        {"ready-fd", required_argument, NULL, 'f'},       {"realtime", required_argument, NULL, 't'},
        {"cores", required_argument, NULL, 'w'},          {"pktgen-defer", no_argument, NULL, 'd'},
        {"pktgen-relaxed", required_argument, NULL, 'x'},
        {NULL, 0, NULL, 0},
    };
    int c;
    while ((c = getopt_long(argc, argv, "i:", options, NULL)) != -1) {
        switch (c) {
        case 's': a->socket = optarg; break;
        case 'l': a->load = optarg; break;
        case 'p': a->pcap = optarg; break;
        case 'm': sw->pcap_limit = (uint64_t)number(optarg, 0, 1 << 20, "--pcap-limit-mib") << 20; break;
        case 'c': sw->cpu_port = (uint16_t)number(optarg, 0, MAX_PORTS - 1, "--cpu-port"); break;
        case 'g': sw->pktgen.port = (uint16_t)number(optarg, 0, MAX_PORTS - 1, "--pktgen-port"); break;
        case 'u': a->interval_us = number(optarg, 0, 1000000000, "--pktgen-interval-us"); break;
        case 'd': a->defer = true; break;
        case 'x': a->relaxed = number(optarg, 1, 8, "--pktgen-relaxed"); break;
        case 'r': sw->ring_bytes = (size_t)number(optarg, 256, 1 << 20, "--ring-kib") * 1024; break;
        case 'n': a->nice = number(optarg, -20, 19, "--nice"); break;
        case 't': a->realtime = number(optarg, 0, 1, "--realtime"); break;
        case 'w': a->cores = number(optarg, 0, 64, "--cores"); break;
        case 'f': a->ready_fd = (int)number(optarg, 0, 1 << 20, "--ready-fd"); break;
        case 'v': set_level(optarg); break;
        case 'i':
            if (a->count == MAX_PORTS) {
                fprintf(stderr, "switchd: too many interfaces\n");
                exit(2);
            }
            a->interfaces[a->count++] = optarg;
            break;
        default: fputs(USAGE, stderr); exit(2);
        }
    }
    if (!a->socket || optind != argc) {
        fputs(USAGE, stderr);
        exit(2);
    }
}

static int signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static void add_interfaces(struct switchd *sw, const struct arguments *a)
{
    char error[200];
    for (int i = 0; i < a->count; i++) {
        const char *at = strchr(a->interfaces[i], '@');
        char text[8] = "";
        if (at && (size_t)(at - a->interfaces[i]) < sizeof text)
            memcpy(text, a->interfaces[i], (size_t)(at - a->interfaces[i]));
        if (!at || !text[0]) {
            fprintf(stderr, "switchd: -i %s: expected PORT@INTERFACE\n", a->interfaces[i]);
            exit(2);
        }
        if (!port_add(sw, (uint16_t)number(text, 0, MAX_PORTS - 1, "-i"), at + 1, error, sizeof error)) {
            fprintf(stderr, "switchd: -i %s: %s\n", a->interfaces[i], error);
            exit(2);
        }
    }
}

int main(int argc, char **argv)
{
    static struct switchd self;
    struct switchd *sw = &self;
    struct arguments a = {.ready_fd = -1, .relaxed = 1, .nice = -10, .realtime = true};
    char error[512];
    sw->cpu_port = 510;
    sw->pktgen = (struct pktgen){.port = 509, .due = NEVER};
    fifo_init(&sw->pktgen.injected);
    fifo_init(&sw->device.backlog);
    parse_arguments(sw, &a, argc, argv);

    /* malloc(): large blocks mapped, so that they grow without being copied; freed ones neither merged nor given back in
     * one go while packets wait. */
    mallopt(M_MMAP_THRESHOLD, 256 << 10);
    mallopt(M_TRIM_THRESHOLD, 256 << 20);
    mallopt(M_MXFAST, 0);
    int signal_fd = signals();
    priority_start((int)a.nice, a.realtime);
    sw->started = sw->now = sw->device.window = mono_ns();
    clock_update(sw, sw->now);
    sw->tx_arena = malloc(TX_ARENA + MAX_FRAME);
    sw->epoll = epoll_create1(EPOLL_CLOEXEC);
    sw->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    sw->link = link_open();
    if (!sw->tx_arena || sw->epoll < 0 || sw->timer < 0 || sw->link < 0 || signal_fd < 0) {
        log_error("cannot start: %s", strerror(errno));
        return 1;
    }
    sw->control = control_open(a.socket, error, sizeof error);
    if (!sw->control) {
        log_error("control socket %s", error);
        return 1;
    }
    control_watch(sw->control, signal_fd, WATCH_SIGNALS);
    control_watch(sw->control, sw->link, WATCH_LINKS);
    if (a.pcap)
        snprintf(sw->pcap_directory, sizeof sw->pcap_directory, "%s", a.pcap);
    if (sw->ring_bytes == 0) /* some 8 MB in all; 1 MB holds 600 frames */
        sw->ring_bytes = a.count <= 2 ? 4u << 20 : a.count <= 4 ? 2u << 20 : 1u << 20;
    if (!senders_start(sw, (unsigned)a.cores)) {
        log_error("out of memory");
        return 1;
    }
    add_interfaces(sw, &a);
    if (a.load && !pipeline_load(sw, a.load, error, sizeof error)) {
        log_error("%s", error);
        control_close(sw->control);
        return 1;
    }
    pktgen_configure(sw, (uint64_t)a.interval_us * NS_PER_US, a.interval_us > 0, a.defer, (uint32_t)a.relaxed);
    if (a.ready_fd >= 0) {
        if (write(a.ready_fd, "1", 1) != 1)
            log_warn("nobody waits for our readiness");
        close(a.ready_fd);
    }
    loop_run(sw);

    log_info("stopping");
    control_close(sw->control);
    sw->control = NULL;
    while (sw->port_count)
        port_remove(sw, sw->ports[0]);
    senders_stop(sw);
    pipeline_unload(sw);
    free(sw->tx_arena);
    close(sw->epoll);
    close(sw->timer);
    close(sw->link);
    close(signal_fd);
    return 0;
}
