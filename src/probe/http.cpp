// HTTP by libcurl, told to do one exchange and nothing on its own: no redirect, no proxy, no name look-up, no other protocol, no second connection.

#include <algorithm>
#include <array>
#include <cctype>
#include <cstring>

#include <curl/curl.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <unistd.h>

#include "parts.hpp"

namespace promwarden::probe {

namespace {

using Handles = Handle<CURL, curl_easy_cleanup>;
using Lines = Handle<curl_slist, curl_slist_free_all>;

constexpr std::size_t longest_head = 32 << 10;
constexpr std::size_t longest_header = 1 << 10;
constexpr std::size_t glance = 4 << 10;  // of a body that nobody keeps
constexpr std::array<std::string_view, 5> kept_headers{"location", "www-authenticate", "server", "content-type", "access-control-allow-origin"};
constexpr auto wrong_user = "promwarden-probe-nobody";
constexpr auto wrong_password = "not-a-password";

/// One exchange, as libcurl's callbacks see it.
struct Exchange {
    const Request& request;
    const WorkerOptions& options;
    std::size_t body_limit = glance;
    std::size_t head = 0;
    Answer answer{};
    bool over = false;                // more head than anybody needs
    bool whole_head = false;          // of the answer that counts
    std::optional<Error> problem{};   // of ours, not the peer's

    curl_socket_t open(const curl_sockaddr& wanted) {
        sockaddr_storage expected;
        const auto length = fill_address(request.to, expected);
        if (wanted.addrlen != length || std::memcmp(&wanted.addr, &expected, length) != 0) {
            problem = Error{Code::failed, 0, "connect to", to_text(request.to), "libcurl chose another address"};
            return CURL_SOCKET_BAD;
        }
        auto socket = local_socket(request.to);
        if (socket) return socket->release();
        problem = socket.error();
        return CURL_SOCKET_BAD;
    }

    bool header(std::string_view line) {
        head += line.size();
        over = head > longest_head;
        if (over) return false;
        if (line.starts_with("HTTP/")) answer.headers.clear(), whole_head = false;  // of an answer like 100, another follows
        if (line == "\r\n" || line == "\n") whole_head = true;
        const auto colon = line.find(':');
        if (colon == std::string_view::npos) return true;
        std::string name(line.substr(0, colon));
        for (auto& c : name) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
        if (std::ranges::find(kept_headers, name) == kept_headers.end()) return true;
        auto value = line.substr(colon + 1);
        while (value.starts_with(' ') || value.starts_with('\t')) value.remove_prefix(1);
        while (value.ends_with('\n') || value.ends_with('\r') || value.ends_with(' ')) value.remove_suffix(1);
        answer.headers.insert_or_assign(std::move(name), plain_text(value, longest_header));
        return true;
    }

    bool body(std::string_view part) {
        const auto room = body_limit - answer.body.size();
        answer.truncated = part.size() > room;
        answer.body += part.substr(0, room);
        return !answer.truncated;
    }
};

std::size_t on_header(char* bytes, std::size_t size, std::size_t count, void* exchange) {
    return static_cast<Exchange*>(exchange)->header({bytes, size * count}) ? size * count : 0;
}
std::size_t on_body(char* bytes, std::size_t size, std::size_t count, void* exchange) {
    return static_cast<Exchange*>(exchange)->body({bytes, size * count}) ? size * count : 0;
}
curl_socket_t on_socket(void* exchange, curlsocktype, curl_sockaddr* address) { return static_cast<Exchange*>(exchange)->open(*address); }
CURLcode on_tls(CURL*, void* context, void* pointer) {
    auto& exchange = *static_cast<Exchange*>(pointer);
    const auto done = prepare(static_cast<SSL_CTX*>(context), exchange.request, exchange.options);
    if (!done) exchange.problem = done.error();
    return done ? CURLE_OK : CURLE_SSL_CERTPROBLEM;
}

std::string host_of(const Request& request) {
    if (!request.server_name.empty()) return request.server_name;
    const auto address = to_text(request.to.address);
    return request.to.address.family == Family::ip6 ? "[" + address + "]" : address;
}

long versions_of(const Request& request) {
    constexpr std::array<long, 4> lowest{CURL_SSLVERSION_TLSv1_0, CURL_SSLVERSION_TLSv1_1, CURL_SSLVERSION_TLSv1_2, CURL_SSLVERSION_TLSv1_3};
    constexpr std::array<long, 4> highest{CURL_SSLVERSION_MAX_TLSv1_0, CURL_SSLVERSION_MAX_TLSv1_1, CURL_SSLVERSION_MAX_TLSv1_2, CURL_SSLVERSION_MAX_TLSv1_3};
    return lowest[static_cast<std::size_t>(request.lowest)] | highest[static_cast<std::size_t>(request.highest)];
}

/// What libcurl must not do on its own.
void restrain(CURL* curl, const Request& request) {
    ::curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    ::curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    ::curl_easy_setopt(curl, CURLOPT_PROXY, "");
    ::curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L);
    ::curl_easy_setopt(curl, CURLOPT_NETRC, static_cast<long>(CURL_NETRC_IGNORED));
    ::curl_easy_setopt(curl, CURLOPT_HTTP09_ALLOWED, 0L);
    ::curl_easy_setopt(curl, CURLOPT_FRESH_CONNECT, 1L);
    ::curl_easy_setopt(curl, CURLOPT_FORBID_REUSE, 1L);
    ::curl_easy_setopt(curl, CURLOPT_SSL_SESSIONID_CACHE, 0L);
    ::curl_easy_setopt(curl, CURLOPT_HTTP_CONTENT_DECODING, 0L);
    ::curl_easy_setopt(curl, CURLOPT_PATH_AS_IS, 1L);
    ::curl_easy_setopt(curl, CURLOPT_BUFFERSIZE, 16384L);
    ::curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, static_cast<long>(request.timeout.count()));
    ::curl_easy_setopt(curl, CURLOPT_HTTP_VERSION, static_cast<long>(request.http2 ? CURL_HTTP_VERSION_2TLS : CURL_HTTP_VERSION_1_1));
    ::curl_easy_setopt(curl, CURLOPT_USERAGENT, "promwarden-probe");
}

void trust_anybody(CURL* curl, const Request& request) {
    // Whose certificate it is, is decided by handshakes and by who holds the socket; here a stranger asks, and strangers may.
    ::curl_easy_setopt(curl, CURLOPT_SSL_VERIFYPEER, 0L);
    ::curl_easy_setopt(curl, CURLOPT_SSL_VERIFYHOST, 0L);
    ::curl_easy_setopt(curl, CURLOPT_SSLVERSION, versions_of(request));
    ::curl_easy_setopt(curl, CURLOPT_SSL_CTX_FUNCTION, on_tls);
}

void connect_callbacks(CURL* curl, Exchange& exchange) {
    ::curl_easy_setopt(curl, CURLOPT_SSL_CTX_DATA, &exchange);
    ::curl_easy_setopt(curl, CURLOPT_OPENSOCKETFUNCTION, on_socket);
    ::curl_easy_setopt(curl, CURLOPT_OPENSOCKETDATA, &exchange);
    ::curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header);
    ::curl_easy_setopt(curl, CURLOPT_HEADERDATA, &exchange);
    ::curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
    ::curl_easy_setopt(curl, CURLOPT_WRITEDATA, &exchange);
}

void set_method(CURL* curl, const Request& request) {
    if (request.method == "HEAD") ::curl_easy_setopt(curl, CURLOPT_NOBODY, 1L);
    else if (request.method == "POST") ::curl_easy_setopt(curl, CURLOPT_COPYPOSTFIELDS, "");
    else ::curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, request.method.c_str());
}

Result<> set_login(CURL* curl, const Request& request, const WorkerOptions& options) {
    if (request.credential == Credential::none) return {};
    const auto login = request.credential == Credential::own ? TRY(read_login(options.policy)) : Login{wrong_user, wrong_password};
    ::curl_easy_setopt(curl, CURLOPT_HTTPAUTH, static_cast<long>(CURLAUTH_BASIC));
    ::curl_easy_setopt(curl, CURLOPT_USERNAME, login.user.c_str());
    ::curl_easy_setopt(curl, CURLOPT_PASSWORD, login.password.c_str());
    return {};
}

live::End end_of(CURLcode code, const Exchange& exchange) {
    const bool answered = exchange.whole_head && exchange.answer.status >= 200;
    if (exchange.over || code == CURLE_OUT_OF_MEMORY) return live::End::limit;
    switch (code) {
        case CURLE_OK: return live::End::answered;
        case CURLE_WRITE_ERROR:
        case CURLE_PARTIAL_FILE: return answered ? live::End::answered : live::End::limit;
        case CURLE_COULDNT_CONNECT: return live::End::refused;
        case CURLE_OPERATION_TIMEDOUT: return answered ? live::End::answered : live::End::timeout;
        case CURLE_SSL_CONNECT_ERROR:
        case CURLE_PEER_FAILED_VERIFICATION:
        case CURLE_SSL_CERTPROBLEM:
        case CURLE_SSL_CIPHER: return live::End::handshake;
        case CURLE_GOT_NOTHING: return live::End::closed;
        case CURLE_RECV_ERROR:
        case CURLE_SEND_ERROR: return exchange.request.tls ? live::End::handshake : live::End::closed;  // TLS 1.3 refuses a client here
        case CURLE_UNSUPPORTED_PROTOCOL:
        case CURLE_WEIRD_SERVER_REPLY:
        case CURLE_HTTP2:
        case CURLE_HTTP2_STREAM: return live::End::garbage;
        default: return live::End::failed;
    }
}

}  // namespace

Result<Answer> ask_http(const Request& request, const WorkerOptions& options) {
    static const auto ready = ::curl_global_init(CURL_GLOBAL_DEFAULT);
    const Handles curl(ready == CURLE_OK ? ::curl_easy_init() : nullptr);
    if (!curl) return fail(Code::failed, "start", "libcurl");
    const auto* question = find_question(request.method, request.path);
    if (question == nullptr) return fail(Code::denied, "ask", fmt::format("{} {}", request.method, request.path), "this is not on the list of what may be asked");
    Exchange exchange{request, options, question->kept ? longest_body : glance};
    std::array<char, CURL_ERROR_SIZE> words{};
    ::curl_easy_setopt(curl.get(), CURLOPT_ERRORBUFFER, words.data());
    restrain(curl.get(), request);
    trust_anybody(curl.get(), request);
    connect_callbacks(curl.get(), exchange);
    set_method(curl.get(), request);
    TRY(set_login(curl.get(), request, options));
    const auto url = fmt::format("{}://{}:{}{}{}", request.tls ? "https" : "http", host_of(request), request.to.port, request.prefix, question->path);
    ::curl_easy_setopt(curl.get(), CURLOPT_URL, url.c_str());
    const auto address = to_text(request.to.address);
    const Lines place(::curl_slist_append(nullptr, fmt::format("::{}:{}", request.to.address.family == Family::ip6 ? "[" + address + "]" : address, request.to.port).c_str()));
    ::curl_easy_setopt(curl.get(), CURLOPT_CONNECT_TO, place.get());
    const Lines headers(request.foreign_origin ? ::curl_slist_append(nullptr, "Origin: https://stranger.invalid") : nullptr);
    ::curl_easy_setopt(curl.get(), CURLOPT_HTTPHEADER, headers.get());
    const auto code = ::curl_easy_perform(curl.get());
    if (exchange.problem) return std::unexpected(*std::move(exchange.problem));
    long status = 0;
    ::curl_easy_getinfo(curl.get(), CURLINFO_RESPONSE_CODE, &status);
    auto& answer = exchange.answer;
    answer.status = static_cast<int>(status);
    answer.end = end_of(code, exchange);
    if (answer.end != live::End::answered) answer.status = 0, answer.detail = plain_text(words[0] != '\0' ? words.data() : ::curl_easy_strerror(code), 200);
    answer.sha256 = sha256(answer.body);
    if (!question->kept) answer.body.clear();
    return std::move(answer);
}

}  // namespace promwarden::probe
