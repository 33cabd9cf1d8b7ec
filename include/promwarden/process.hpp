/// process — processes and their sockets, as the kernel describes them. Part of the room facts: plain values, no I/O.
#pragma once

#include "promwarden/address.hpp"

namespace promwarden {

/// A process as the kernel describes it. Only numbers are trusted; `comm` and `exe` are for people.
struct Process {
    pid_t pid = 0;
    std::string comm;
    std::string exe;                // the link target of /proc/PID/exe, "" where it could not be read
    std::optional<uid_t> uid;
    std::optional<uid_t> loginuid;  // unset for services
    std::string unit;               // systemd unit of its cgroup, "" outside of one

    bool operator==(const Process&) const = default;
};

enum class Protocol : std::uint8_t { tcp, udp };

/// A socket that takes packets from others: TCP in LISTEN, UDP bound and not connected. From sock_diag.
struct Listener {
    Protocol protocol = Protocol::tcp;
    Endpoint endpoint;
    bool v6only = true;     // for an IPv6 socket: whether it leaves IPv4 alone
    uid_t uid = 0;          // owner of the socket
    std::uint32_t inode = 0;
    std::vector<Process> holders;  // processes with a descriptor of it, as far as we may look
};

/// An established TCP connection.
struct Connection {
    Endpoint local;
    Endpoint remote;
    std::uint32_t inode = 0;
    bool operator==(const Connection&) const = default;
};

}  // namespace promwarden
