/* Scheduling: packets, and above all heartbeats, must not wait for somebody else's time slice.
 *
 * A switch that sleeps most of the time runs at the lowest real-time priority where that is permitted: it wakes up at
 * once, however many compilers share the machine. Under load it would hold a core against everybody (and the kernel
 * then stops real-time threads for 50 ms in every second), so it goes back to ordinary scheduling with a negative nice
 * value and a short slice (Linux 6.12: shorter slices are served sooner). What is not permitted is done without.
 */
#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "switchd.h"

static const uint64_t WINDOW = 20 * NS_PER_MS;
static const double HOT = 0.6, COOL = 0.3; /* share of a core */

static bool wanted, active;
static int ordinary_nice;
static uint64_t window_start, window_cpu;

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

void priority_turn(uint64_t now)
{
    if (!wanted || now - window_start < WINDOW)
        return;
    uint64_t cpu = cpu_ns();
    double share = (double)(cpu - window_cpu) / (double)(now - window_start);
    window_start = now;
    window_cpu = cpu;
    if (active && share > HOT) {
        be_ordinary();
    } else if (!active && share < COOL) {
        active = set_policy(SCHED_RR, 0);
        if (!active) {
            log_info("no real-time priority: %s", strerror(errno));
            wanted = false;
        }
    }
}
