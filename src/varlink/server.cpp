// Accepting, and finding the method for a call.

#include <algorithm>

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "connection.hpp"

namespace promwarden::varlink {

namespace {

constexpr std::string_view service_description = R"(# What every Varlink service tells about itself.
interface org.varlink.service

# Who made this, and which interfaces it has.
method GetInfo() -> (vendor: string, product: string, version: string, url: string, interfaces: []string)

# The definition of an interface, in this language.
method GetInterfaceDescription(interface: string) -> (description: string)

error InterfaceNotFound (interface: string)
error MethodNotFound (method: string)
error MethodNotImplemented (method: string)
error InvalidParameter (parameter: string)
error PermissionDenied ()
error ExpectedMore ()
)";

template <class T>
Result<T> socket_option(const Fd& fd, int option) {
    T value{};
    socklen_t size = sizeof value;
    if (::getsockopt(*fd, SOL_SOCKET, option, &value, &size) != 0) return fail_errno("ask socket", "");
    return value;
}

Result<> set_nonblocking(const Fd& fd) {
    const int flags = ::fcntl(*fd, F_GETFL);
    if (flags < 0 || ::fcntl(*fd, F_SETFL, flags | O_NONBLOCK) != 0 || ::fcntl(*fd, F_SETFD, FD_CLOEXEC) != 0)
        return fail_errno("set socket flags", "");
    return {};
}

}  // namespace

Server::Server(sd_event* loop, Service service, Limits limits, std::int64_t priority)
    : loop_(sd_event_ref(loop)), service_(std::move(service)), limits_(limits), priority_(priority) {}

Server::~Server() {
    // A call that is destroyed by the end of its connection must find neither.
    for (const auto connections = std::move(connections_); const auto& connection : connections) connection->close();
}

Result<std::unique_ptr<Server>> Server::start(sd_event* loop, Fd listening, Service service, Limits limits, std::int64_t priority) {
    if (TRY(socket_option<int>(listening, SO_DOMAIN)) != AF_UNIX || TRY(socket_option<int>(listening, SO_TYPE)) != SOCK_STREAM ||
        TRY(socket_option<int>(listening, SO_ACCEPTCONN)) != 1)
        return fail(Code::invalid, "serve socket", "", "not a listening Unix stream socket");
    TRY(set_nonblocking(listening));
    std::unique_ptr<Server> server(new Server(loop, std::move(service), limits, priority));
    server->listening_ = std::move(listening);
    server->service_.interfaces.insert(server->service_.interfaces.begin(), server->introspection());
    sd_event_source* source = nullptr;
    if (const int status = sd_event_add_io(loop, &source, *server->listening_, EPOLLIN, on_accept, server.get()); status < 0)
        return fail_errno("watch socket", "", -status);
    server->accepting_.reset(source);
    sd_event_source_set_priority(source, priority);
    // Made now, because it is needed when there is no descriptor left to make it with.
    TRY(arm(loop, server->resuming_, std::chrono::seconds(1), priority, on_resume, server.get()));
    sd_event_source_set_enabled(server->resuming_.get(), SD_EVENT_OFF);
    return server;
}

Interface Server::introspection() {
    const auto info = [this](Call call) {
        Json names = Json::array();
        for (const auto& interface : service_.interfaces) names.push_back(interface.name);
        call.reply({{"vendor", service_.vendor},
                    {"product", service_.product},
                    {"version", service_.version},
                    {"url", service_.url},
                    {"interfaces", names}});
    };
    const auto describe = [this](Call call) {
        const auto name = call.parameters().find("interface");
        if (name == call.parameters().end() || !name->is_string()) return call.invalid_parameter("interface");
        const auto found = std::ranges::find(service_.interfaces, name->get_ref<const std::string&>(), &Interface::name);
        if (found == service_.interfaces.end()) return call.error("org.varlink.service.InterfaceNotFound", {{"interface", *name}});
        call.reply({{"description", found->description}});
    };
    return {"org.varlink.service",
            service_description,
            {{"GetInfo", Access::anyone, Streaming::never, {}, info},
             {"GetInterfaceDescription", Access::anyone, Streaming::never, {"interface"}, describe}}};
}

// ---- connections ----------------------------------------------------------------------------------------------------

int Server::on_accept(sd_event_source*, int, std::uint32_t, void* server) {
    auto& self = *static_cast<Server*>(server);
    if (self.accept_one()) return 0;
    // Without descriptors or memory the waiting connection would wake us again at once: look away for a while.
    sd_event_source_set_enabled(self.accepting_.get(), SD_EVENT_OFF);
    return arm(self.loop_.get(), self.resuming_, std::chrono::seconds(1), self.priority_, on_resume, server) ? 0 : -ENOMEM;
}

int Server::on_resume(sd_event_source*, std::uint64_t, void* server) {
    sd_event_source_set_enabled(static_cast<Server*>(server)->accepting_.get(), SD_EVENT_ON);
    return 0;
}

/// An error means that accepting at once again is useless; a connection that is refused or fails is none.
Result<> Server::accept_one() {
    Fd fd{::accept4(*listening_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC)};
    if (!fd) {
        if (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED) return {};
        return fail_errno("accept", "");
    }
    (void)adopt(std::move(fd));
    return {};
}

bool Server::admits(uid_t uid) const {
    const auto of = [&](auto&& predicate) { return static_cast<std::size_t>(std::ranges::count_if(connections_, predicate)); };
    if (connections_.size() >= limits_.connections) return false;
    if (of([&](const auto& connection) { return connection->peer().uid == uid; }) >= limits_.per_uid) return false;
    return uid == 0 ||
           of([](const auto& connection) { return connection->peer().uid != 0; }) + limits_.reserved_for_root < limits_.connections;
}

Result<> Server::adopt(Fd connected) {
    const auto credentials = TRY(socket_option<ucred>(connected, SO_PEERCRED));
    TRY(set_nonblocking(connected));
    if (!admits(credentials.uid)) {
        const auto text = error_text(service_.too_many, Json::object());
        (void)::send(*connected, text.data(), text.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
        return fail(Code::limit, "serve connection", "", "too many connections");
    }
    auto connection = std::make_shared<Connection>(*this, std::move(connected), Peer{credentials.pid, credentials.uid, credentials.gid});
    TRY(connection->start());
    connections_.push_back(std::move(connection));
    return {};
}

void Server::remove(const Connection& connection) {
    std::erase_if(connections_, [&](const auto& each) { return each.get() == &connection; });
    // A place is free again, and a descriptor will be.
    sd_event_source_set_enabled(accepting_.get(), SD_EVENT_ON);
}

// ---- calls ----------------------------------------------------------------------------------------------------------

void Server::dispatch(Connection& connection, Call call, bool upgrade) {
    if (upgrade) return call.invalid_parameter("upgrade");
    const std::string full = call.method();
    const auto dot = full.rfind('.');
    const auto interface_name = std::string_view(full).substr(0, dot == std::string::npos ? 0 : dot);
    const auto interface = std::ranges::find(service_.interfaces, interface_name, &Interface::name);
    if (interface == service_.interfaces.end()) return call.error("org.varlink.service.InterfaceNotFound", {{"interface", interface_name}});
    const auto method = std::ranges::find(interface->methods, std::string_view(full).substr(dot + 1), &Method::name);
    if (method == interface->methods.end()) return call.error("org.varlink.service.MethodNotFound", {{"method", full}});
    if (method->access == Access::root && !connection.is_root()) return call.error("org.varlink.service.PermissionDenied");
    if (!method->invoke) return call.error("org.varlink.service.MethodNotImplemented", {{"method", full}});
    if (method->streaming == Streaming::required && !call.more()) return call.error("org.varlink.service.ExpectedMore");
    call.more_ = call.more_ && method->streaming != Streaming::never;
    for (const auto& [name, value] : call.parameters().items())
        if (std::ranges::find(method->parameters, name) == method->parameters.end()) return call.invalid_parameter(std::string(name));
    try {
        method->invoke(std::move(call));
    } catch (const std::exception&) {
        // A method that trips over its parameters has dropped its call, which closes this connection and no other.
    }
}

std::vector<std::string> disagreements(const Interface& interface) {
    std::vector<std::string> result;
    std::vector<std::string_view> described;
    bool named = false;
    for (auto rest = interface.description; !rest.empty();) {
        auto line = rest.substr(0, rest.find('\n'));
        rest.remove_prefix(std::min(rest.size(), line.size() + 1));
        if (line.starts_with("interface ")) named = line.substr(10) == interface.name;
        if (line.starts_with("method ")) described.push_back(line.substr(7, line.find_first_of("( ", 7) - 7));
    }
    if (!named) result.push_back("the description is not of interface " + std::string(interface.name));
    for (const auto& method : interface.methods)
        if (std::ranges::find(described, method.name) == described.end()) result.push_back("not described: " + std::string(method.name));
    for (const auto name : described)
        if (std::ranges::find(interface.methods, name, &Method::name) == interface.methods.end())
            result.push_back("not in the table: " + std::string(name));
    return result;
}

}  // namespace promwarden::varlink
