// One thread, one loop, a few short-lived connections.

#include <algorithm>
#include <array>
#include <csignal>

#include <nlohmann/json.hpp>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "promwarden/address.hpp"
#include "promwarden/http.hpp"
#include "promwarden/metrics.hpp"

namespace promwarden::metrics {

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t most_connections = 16;
constexpr std::size_t longest_head = 8 << 10;
constexpr std::size_t longest_page = 1 << 20;
constexpr std::chrono::seconds time_to_ask{5}, time_to_take{10}, time_of_agent{5}, age{1};

/// What the agent says, asked at most once a second.
class Source {
public:
    explicit Source(std::string socket) : socket_(std::move(socket)) {}

    varlink::Page page() {
        if (Clock::now() - asked_ > age) {
            page_ = ask();
            asked_ = Clock::now();
        }
        return page_;
    }

private:
    varlink::Page ask() {
        auto client = varlink::Client::connect(socket_, time_of_agent);
        if (!client) return no_answer(client.error());
        const auto reply = client->call("io.promwarden.Metrics", Json::object(), time_of_agent);
        if (!reply) return no_answer(reply.error().error);
        const auto text = reply->find("text");
        if (text == reply->end() || !text->is_string()) return no_answer({Code::invalid, 0, "read", "the agent's answer", "it has no text"});
        return {200, "application/openmetrics-text; version=1.0.0; charset=utf-8", text->get<std::string>()};
    }

    static varlink::Page no_answer(const Error& error) { return {503, "text/plain; charset=utf-8", "the agent does not answer: " + error.text() + "\n"}; }

    std::string socket_;
    varlink::Page page_;
    Clock::time_point asked_{};
};

/// "host: 127.0.0.1:9469" among the lines of a head. Two of them are refused later; none is for HTTP/1.0 only.
bool is_for_us(std::string_view head) {
    while (!head.empty()) {
        auto line = head.substr(0, head.find('\n'));
        head.remove_prefix(std::min(head.size(), line.size() + 1));
        if (line.ends_with('\r')) line.remove_suffix(1);
        constexpr std::string_view name = "host:";
        if (line.size() < name.size() || !std::ranges::equal(line.substr(0, name.size()), name, [](char a, char b) { return (a >= 'A' && a <= 'Z' ? a | 0x20 : a) == b; })) continue;
        line.remove_prefix(name.size());
        while (line.starts_with(' ') || line.starts_with('\t')) line.remove_prefix(1);
        while (line.ends_with(' ') || line.ends_with('\t')) line.remove_suffix(1);
        if (!is_local_host(line)) return false;
    }
    return true;
}

class Connection {
public:
    explicit Connection(Fd fd) : fd_(std::move(fd)) {}

    [[nodiscard]] pollfd watched() const { return {*fd_, static_cast<short>(answer_.empty() ? POLLIN : POLLOUT), 0}; }
    [[nodiscard]] Clock::time_point deadline() const { return deadline_; }

    /// False when it is over.
    bool proceed(Source& source) {
        if (answer_.empty() && !read(source)) return false;
        return answer_.empty() || write();
    }

private:
    bool read(Source& source) {
        std::array<char, 2048> part{};
        const auto length = ::recv(*fd_, part.data(), part.size(), MSG_DONTWAIT);
        if (length < 0) return errno == EAGAIN || errno == EINTR;
        if (length == 0) return false;
        head_.append(part.data(), static_cast<std::size_t>(length));
        const auto end = varlink::http_head_end(head_);
        if (!end && head_.size() <= longest_head) return true;
        answer_ = !end || *end > longest_head ? varlink::http_refusal(431) : respond(std::string_view(head_).substr(0, *end), source);
        deadline_ = Clock::now() + time_to_take;
        return true;
    }

    static std::string respond(std::string_view head, Source& source) {
        if (!is_for_us(head)) return varlink::http_refusal(421);
        const std::array<varlink::Resource, 1> resources{{{"/metrics", [&] { return source.page(); }}}};
        return varlink::http_response(head, resources, longest_page);
    }

    bool write() {
        while (sent_ < answer_.size()) {
            const auto length = ::send(*fd_, answer_.data() + sent_, answer_.size() - sent_, MSG_DONTWAIT | MSG_NOSIGNAL);
            if (length < 0) return errno == EAGAIN || errno == EINTR;
            sent_ += static_cast<std::size_t>(length);
        }
        ::shutdown(*fd_, SHUT_WR);
        return false;
    }

    Fd fd_;
    std::string head_, answer_;
    std::size_t sent_ = 0;
    Clock::time_point deadline_ = Clock::now() + time_to_ask;
};

class Server {
public:
    Server(Fd listening, const Options& options) : listening_(std::move(listening)), options_(options), source_(options.socket) {}

    Result<> run() {
        for (;;) {
            std::vector<pollfd> polled;
            for (const auto& connection : connections_) polled.push_back(connection.watched());
            if (connections_.size() < most_connections) polled.push_back({*listening_, POLLIN, 0});
            const int ready = ::poll(polled.data(), polled.size(), patience());
            if (ready < 0 && errno != EINTR) return fail_errno("wait for", "connections");
            if (ready == 0 && connections_.empty()) return {};
            turn(polled);
        }
    }

private:
    [[nodiscard]] int patience() const {
        if (connections_.empty()) return static_cast<int>(std::chrono::milliseconds(options_.idle).count());
        const auto next = std::ranges::min_element(connections_, {}, &Connection::deadline)->deadline();
        return static_cast<int>(std::max<std::int64_t>(0, std::chrono::ceil<std::chrono::milliseconds>(next - Clock::now()).count()));
    }

    void turn(const std::vector<pollfd>& polled) {
        const auto now = Clock::now();
        std::vector<Connection> staying;
        for (std::size_t i = 0; i < connections_.size(); ++i)
            if (now < connections_[i].deadline() && (polled[i].revents == 0 || connections_[i].proceed(source_))) staying.push_back(std::move(connections_[i]));
        const bool somebody = polled.size() > connections_.size() && polled.back().revents != 0;
        connections_ = std::move(staying);
        if (!somebody) return;
        if (Fd fd(::accept4(*listening_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK)); fd) connections_.emplace_back(std::move(fd));
    }

    Fd listening_;
    Options options_;
    Source source_;
    std::vector<Connection> connections_;
};

}  // namespace

bool is_local_host(std::string_view host) {
    auto name = host;
    if (name.starts_with('[')) {
        const auto end = name.find(']');
        if (end == std::string_view::npos) return false;
        return parse_address(name.substr(1, end - 1)).has_value() && (end + 1 == name.size() || name[end + 1] == ':');
    }
    name = name.substr(0, name.rfind(':'));
    return name == "localhost" || parse_address(name).has_value();
}

Result<> serve(Fd listening, const Options& options) {
    ::signal(SIGPIPE, SIG_IGN);
    return Server(std::move(listening), options).run();
}

}  // namespace promwarden::metrics
