// Netlink dumps: asked, read completely or not at all.
#pragma once

#include <functional>

#include <libmnl/libmnl.h>

#include "promwarden/address.hpp"

namespace promwarden::host {

using Bytes = std::span<const std::uint8_t>;

/// A dump request: header, the family's own structure, attributes.
class Request {
public:
    template <class Body>
    Request(std::uint16_t type, const Body& body) : Request(type, Bytes(reinterpret_cast<const std::uint8_t*>(&body), sizeof body)) {}
    Request& attribute(std::uint16_t type, Bytes value);
    [[nodiscard]] std::vector<std::uint8_t>& bytes() { return bytes_; }

private:
    Request(std::uint16_t type, Bytes body);
    std::vector<std::uint8_t> bytes_;
};

/// One message of the kernel: its type and what follows the header.
struct Message {
    std::uint16_t type = 0;
    Bytes payload;
};
using Visit = std::function<void(const Message&)>;

/// The fixed structure at the start of a message, if it is all there.
template <class Body>
std::optional<Body> body_of(const Message& message) {
    if (message.payload.size() < sizeof(Body)) return std::nullopt;
    Body body;
    std::memcpy(&body, message.payload.data(), sizeof body);
    return body;
}
/// What follows that structure.
template <class Body>
Bytes attributes_of(const Message& message) {
    const std::size_t offset = MNL_ALIGN(sizeof(Body));
    return message.payload.size() < offset ? Bytes{} : message.payload.subspan(offset);
}

/// The value of the first attribute of that type; empty where there is none.
Bytes find(Bytes attributes, std::uint16_t type);
void for_each_attribute(Bytes attributes, const std::function<void(std::uint16_t type, Bytes value)>& visit);

template <class Number>
std::optional<Number> number(Bytes value) {
    if (value.size() < sizeof(Number)) return std::nullopt;
    Number result;
    std::memcpy(&result, value.data(), sizeof result);
    return result;
}
/// A NUL-terminated string.
std::string text(Bytes value);

Result<Fd> open_netlink(int protocol, std::uint32_t groups = 0, int flags = 0);

/// Reads one datagram of the kernel's into `buffer`. nullopt: none there (on a socket that does not block).
Result<std::optional<Bytes>> receive(const Fd& socket, std::vector<std::uint8_t>& buffer);
/// Walks the messages of a datagram; `visit` returns false to stop.
void for_each_message(Bytes datagram, const std::function<bool(const nlmsghdr& header, const Message& message)>& visit);

/// A socket for dumps.
class Netlink {
public:
    static Result<Netlink> open(int protocol);
    /// `restart` is called before every attempt, so that nothing of an interrupted dump stays. `what` names it in errors.
    Result<> dump(Request request, const std::string& what, const std::function<void()>& restart, const Visit& visit);

private:
    enum class Outcome : std::uint8_t { complete, interrupted };
    Result<Outcome> attempt(std::vector<std::uint8_t>& request, const std::string& what, const Visit& visit);

    int protocol_ = 0;
    Fd socket_;
    std::uint32_t sequence_ = 0;
    std::vector<std::uint8_t> buffer_;
};

/// A dump as a list: `read` appends what a message holds.
template <class T>
Result<std::vector<T>> collect(Netlink& netlink, Request request, const std::string& what, const std::function<void(const Message&, std::vector<T>&)>& read) {
    std::vector<T> items;
    TRY(netlink.dump(std::move(request), what, [&] { items.clear(); }, [&](const Message& message) { read(message, items); }));
    return items;
}

}  // namespace promwarden::host
