/* Scheduling: packets, and above all heartbeats, must not wait for somebody else's time slice.
 *
 *   few packets                       real-time priority, sleeping in between: it wakes up at once, however many
 *                                     compilers share the machine
 *   many packets, cores to spare      ordinary priority, waiting for packets awake (loop.c)
 *   many packets, machine contended   real-time priority again, while it leaves the core something
 *   a core full                       ordinary priority with a negative nice value and a short slice (Linux 6.12: they
 *                                     are served sooner); a real-time thread would starve others, and the kernel stop
 *                                     it for 50 ms in every second
 *
 * What is not permitted is done without.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "switchd.h"

static const uint64_t WINDOW = 20 * NS_PER_MS;
static const uint64_t LOAD_EVERY = 100 * NS_PER_MS;
static const uint64_t BACK_OFF = NS_PER_S; /* after real-time priority would have filled the core */
static const double HOT = 0.93, COOL = 0.4; /* share of a core; HOT over some 200 ms */

static bool wanted, active;
static int ordinary_nice;
static uint64_t window_start, window_cpu, load_checked, contended_until, not_before;
static double runnable; /* threads that want to run on this machine, smoothed */
static double sustained; /* share of a core since real-time priority was taken, smoothed */

static bool set_policy(uint32_t policy, int nice)
{
    struct { /* struct sched_attr */
        uint32_t size, policy;
        uint64_t flags;
        int32_t nice;
        uint32_t priority;
        uint64_t runtime, deadline, period;
    } a = {.size = sizeof a, .policy = policy, .nice = nice};
    if (policy == SCHED_OTHER)
        a.runtime = 100 * NS_PER_US;
    else
        a.priority = 1;
    return syscall(SYS_sched_setattr, 0, &a, 0) == 0;
}

static uint64_t cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

static void be_ordinary(void)
{
    active = false;
    if (!set_policy(SCHED_OTHER, ordinary_nice)) {
        ordinary_nice = getpriority(PRIO_PROCESS, 0);
        if (!set_policy(SCHED_OTHER, ordinary_nice))
            log_debug("scheduling parameters stay as they are: %s", strerror(errno));
    }
}

void priority_start(int nice, bool realtime)
{
    prctl(PR_SET_TIMERSLACK, 1000ul); /* delays are kept to the microsecond */
    ordinary_nice = nice;
    be_ordinary();
    wanted = realtime;
    window_start = mono_ns();
    window_cpu = cpu_ns();
}

bool priority_realtime(void) { return active; }

void priority_helper(void) { (void)set_policy(SCHED_OTHER, ordinary_nice); }

bool priority_contended(uint64_t now) { return now < contended_until; }

/* Time that this thread was ready to run and did not, ns. */
static uint64_t waited_ns(void)
{
    static int fd = -2;
    char text[96] = "";
    unsigned long long ran = 0, waited = 0;
    if (fd == -2)
        fd = open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
    if (fd < 0 || pread(fd, text, sizeof text - 1, 0) <= 0 || sscanf(text, "%llu %llu", &ran, &waited) != 2)
        return 0;
    return waited;
}

static bool contended(uint64_t now)
{
    static uint64_t waited_before, checked;
    uint64_t waited = waited_ns(), window = now - checked;
    if (!active && window < 2 * WINDOW && waited - waited_before > window / 20)
        contended_until = now + 2 * NS_PER_S;
    waited_before = waited;
    checked = now;
    if (now - load_checked >= LOAD_EVERY) {
        unsigned running = 0;
        FILE *f = fopen("/proc/loadavg", "re");
        if (f && fscanf(f, "%*s %*s %*s %u/", &running) == 1)
            runnable += 0.3 * (running - runnable);
        if (f)
            fclose(f);
        load_checked = now;
        if (runnable > (double)sysconf(_SC_NPROCESSORS_ONLN) - 0.5)
            contended_until = now + NS_PER_S;
    }
    return now < contended_until;
}

void priority_turn(uint64_t now, bool fast)
{
    if (!wanted || now - window_start < WINDOW)
        return;
    uint64_t cpu = cpu_ns();
    double share = (double)(cpu - window_cpu) / (double)(now - window_start);
    window_start = now;
    window_cpu = cpu;
    bool realtime = fast ? contended(now) : active || share < COOL;
    sustained += 0.1 * (share - sustained);
    if (active && sustained > HOT)
        not_before = now + BACK_OFF;
    if (now < not_before)
        realtime = false;
    if (active && !realtime) {
        be_ordinary();
    } else if (!active && realtime) {
        active = set_policy(SCHED_RR, 0);
        sustained = 0;
        if (!active) {
            log_info("no real-time priority: %s", strerror(errno));
            wanted = false;
        }
    }
}
