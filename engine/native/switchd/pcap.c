/* Capture files, named as simple_switch names them: <interface>_in.pcap and <interface>_out.pcap. */
#include <errno.h>
#include <string.h>

#include "switchd.h"

static FILE *pcap_file(const char *directory, const char *name, const char *direction)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s_%s.pcap", directory, name, direction);
    FILE *file = fopen(path, "wbe");
    if (!file) {
        log_error("capture %s: %s", path, strerror(errno));
        return NULL;
    }
    /* pcap with nanoseconds, version 2.4, Ethernet */
    const struct {
        uint32_t magic;
        uint16_t major, minor;
        uint32_t zone, accuracy, snap, link;
    } head = {0xa1b23c4d, 2, 4, 0, 0, 262144, 1};
    fwrite(&head, sizeof head, 1, file);
    fflush(file);
    return file;
}

bool pcap_start(struct switchd *sw, struct port *port, const char *directory)
{
    (void)sw;
    pcap_stop(port);
    port->pcap_in = pcap_file(directory, port->name, "in");
    port->pcap_out = pcap_file(directory, port->name, "out");
    if (port->pcap_in && port->pcap_out)
        return true;
    pcap_stop(port);
    return false;
}

void pcap_stop(struct port *port)
{
    if (port->pcap_in)
        fclose(port->pcap_in);
    if (port->pcap_out)
        fclose(port->pcap_out);
    port->pcap_in = port->pcap_out = NULL;
}

void pcap_write(FILE *file, const uint8_t *data, uint32_t len, uint64_t wall)
{
    const uint32_t head[4] = {(uint32_t)(wall / NS_PER_S), (uint32_t)(wall % NS_PER_S), len, len};
    fwrite(head, sizeof head, 1, file);
    fwrite(data, len, 1, file);
}

void pcap_flush(struct switchd *sw)
{
    for (uint32_t i = 0; i < sw->port_count; i++) {
        if (sw->ports[i]->pcap_in)
            fflush(sw->ports[i]->pcap_in);
        if (sw->ports[i]->pcap_out)
            fflush(sw->ports[i]->pcap_out);
    }
    sw->pcap_dirty = false;
}
