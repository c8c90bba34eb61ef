"""A lab's cables and addresses: a topology as veth pairs between namespaces, made before any switch starts."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from typing import Any

from topo import marks, network
from topo.fronts import Fronts
from topo.mininet_nodes import LabInterface
from topo.spec import Endpoint, Host, Topology, interface_name, port_mac

LINK_MTU = 2000  # between switches: room for labels and telemetry headers on full-size packets


def interface(end: Endpoint) -> str:
    """The interface of a switch's port: ``s1-eth2``."""
    return interface_name(end.switch, end.port)


def interface_names(topology: Topology) -> list[str]:
    """The interfaces of all switches' ports."""
    ends = [host.endpoint for host in topology.hosts]
    ends += [end for link in topology.links for end in (link.a, link.b)]
    return [interface(end) for end in ends]


def lay_cables(topology: Topology, lab_id: str, host_pids: Mapping[str, int], fronts: Fronts | None) -> None:
    """Make all pairs of interfaces, marked as the lab's own, and set them up.

    ``host_pids``: a process in each host's namespace. ``fronts``: front panels between the switches and the cables.
    """
    create = []
    names = interface_names(topology)
    plug = interface
    if fronts is not None:
        names += fronts.interfaces()
        plug = fronts.line
        for end in fronts.ends():
            create.append(f"link add name {interface(end)} type veth peer name {fronts.inside(end)}")
    for host in topology.hosts:
        there = f"name {host.name}-eth0 netns {host_pids[host.name]}"
        create.append(f"link add name {plug(host.endpoint)} type veth peer {there}")
    for link in topology.links:
        create.append(f"link add name {plug(link.a)} type veth peer name {plug(link.b)}")
    create += [f"link set dev {name} alias {marks.ALIAS}{lab_id}" for name in names]
    network.ip_batch(create)
    network.quiet_ipv6(names)
    network.offloads_off(names)
    network.ip_batch(f"link set dev {name} mtu {LINK_MTU} up" for name in names)


def tell_mininet(net: Any, topology: Topology) -> None:
    """Enter the cables into a ``mininet.net.Mininet``, whose nodes exist."""
    for host in topology.hosts:
        net.addLink(
            net.nameToNode[host.switch],
            net.nameToNode[host.name],
            port1=host.port,
            port2=0,
            cls1=LabInterface,
            cls2=LabInterface,
            params2={"ip": host.ipv4},
            addr2=host.mac,
        )
    for link in topology.links:
        net.addLink(
            net.nameToNode[link.a.switch],
            net.nameToNode[link.b.switch],
            port1=link.a.port,
            port2=link.b.port,
            cls1=LabInterface,
            cls2=LabInterface,
        )


def configure_hosts(topology: Topology, host_pids: Mapping[str, int]) -> None:
    """Addresses, routes and static neighbours of all hosts, at once; raises what the first that failed raised."""
    failures: list[BaseException] = []

    def configure(host: Host) -> None:
        try:
            network.in_namespace(host_pids[host.name], lambda: _configure_host(topology, host))
        except BaseException as exc:
            failures.append(exc)

    threads = [threading.Thread(target=configure, args=(host,)) for host in topology.hosts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def _configure_host(topology: Topology, host: Host) -> None:
    """Run inside the host's namespace."""
    name = f"{host.name}-eth0"
    gateway_mac = port_mac(topology.switch(host.switch).device_id, host.port)
    network.host_settings(name)
    network.offloads_off([name])
    network.ip_batch(_host_lines(host, name, gateway_mac))


def _host_lines(host: Host, name: str, gateway_mac: str) -> Iterator[str]:
    yield "link set dev lo up"
    yield f"link set dev {name} address {host.mac} addrgenmode none"
    yield f"link set dev {name} up"
    for address, gateway, anywhere, flags in (
        (host.ipv4, host.gateway_ipv4, "0.0.0.0/0", ""),
        (host.ipv6, host.gateway_ipv6, "::/0", " nodad"),
    ):
        yield f"address add {address} dev {name}{flags}"
        yield f"neighbor replace {gateway} lladdr {gateway_mac} dev {name} nud permanent"
        yield f"route add {anywhere} via {gateway} dev {name}"
