// Where Prometheus, nginx and others find their pair. One file each names both halves, so that one rename changes both at once.

#include <algorithm>
#include <charconv>
#include <cstdio>

#include <fcntl.h>
#include <fmt/format.h>
#include <grp.h>
#include <sys/stat.h>
#include <unistd.h>

#include "parts.hpp"
#include "promwarden/nginx.hpp"
#include "promwarden/prometheus.hpp"

namespace promwarden::rotation {

namespace {

using Install = CertificatePolicy::Install;

constexpr std::size_t largest_config = 1 << 20;

std::string parent_of(const std::string& path) { return path.substr(0, std::max<std::size_t>(path.rfind('/'), 1)); }

/// "…/DIRECTORY/7/cert.pem" → 7.
std::optional<unsigned> generation_in(std::string_view path, std::string_view directory, std::string_view file) {
    if (!path.starts_with(directory)) return std::nullopt;
    path.remove_prefix(directory.size());
    if (!path.starts_with('/')) return std::nullopt;
    path.remove_prefix(1);
    unsigned number = 0;
    const auto [end, error] = std::from_chars(path.data(), path.data() + path.size(), number);
    if (error != std::errc{} || number == 0) return std::nullopt;
    const std::string_view rest(end, static_cast<std::size_t>(path.data() + path.size() - end));
    return rest.starts_with('/') && rest.substr(1) == file ? std::optional(number) : std::nullopt;
}

/// A regular file that is not a symbolic link; missing: nullopt.
Result<std::optional<File>> read_unlinked(const std::string& path) {
    struct stat status {};
    if (::lstat(path.c_str(), &status) == 0 && S_ISLNK(status.st_mode))
        return fail(Code::invalid, "edit", path, "it is a symbolic link: whoever made it manages the file; name the file itself as prometheus.web_config");
    auto file = read_trusted_file(path, largest_config);
    if (file) return *std::move(file);
    if (file.error().code == Code::missing) return std::nullopt;
    return std::unexpected(file.error());
}

/// A client's pair is what nginx shows to the server behind it.
std::string nginx_text(const CertificatePolicy& policy, const std::string& directory, unsigned generation) {
    return fmt::format("# Written by promwarden. Include it in a server block.\n{0}ssl_certificate {1}/{2}/cert.pem;\n{0}ssl_certificate_key {1}/{2}/key.pem;\n", policy.server ? "" : "proxy_", directory, generation);
}

}  // namespace

Result<> make_directory_for(const std::string& path, const char* group) {
    struct stat status {};
    if (::lstat(path.c_str(), &status) == 0) return {};
    const auto* entry = ::getgrnam(group);
    if (entry == nullptr) return fail(Code::missing, "make directory", path, fmt::format("there is no group '{}' to read it", group));
    const auto id = entry->gr_gid;
    const auto parent = parent_of(path);
    TRY(list_trusted_directory(parent, "\n"));
    // With its group and mode before it has its name: whoever finds it need not ask whether it was finished.
    const auto unfinished = path + ".new";
    ::rmdir(unfinished.c_str());
    if (::mkdir(unfinished.c_str(), 0700) != 0) return fail_errno("make directory", unfinished);
    const Fd fd{::open(unfinished.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)}, above{::open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    if (!fd || !above || ::fchown(*fd, static_cast<uid_t>(-1), id) != 0 || ::fchmod(*fd, 02750) != 0 ||
        ::renameat2(AT_FDCWD, unfinished.c_str(), AT_FDCWD, path.c_str(), RENAME_NOREPLACE) != 0 || ::fsync(*above) != 0) {
        const int error = errno;
        ::rmdir(unfinished.c_str());
        return fail_errno("make directory", path, error);
    }
    return {};
}

std::string bundle_file(const Places& places, Install install) { return (install == Install::nginx ? places.nginx : places.prometheus) + "/tls/authorities.pem"; }

std::string certificate_file(const Places& places, const CertificatePolicy& policy, unsigned generation) {
    const auto directory = fmt::format("{}/tls/{}", policy.install == Install::nginx ? places.nginx : places.prometheus, policy.name);
    return policy.install == Install::files ? directory + "/current/cert.pem" : fmt::format("{}/{}/cert.pem", directory, generation);
}

Consumer::Consumer(const Places& places, const World& world, const CertificatePolicy& policy, bool clients_too)
    : places_(places),
      world_(world),
      policy_(policy),
      clients_too_(clients_too),
      base_(policy.install == Install::nginx ? places.nginx : places.prometheus),
      directory_(fmt::format("{}/tls/{}", base_, policy.name)),
      pointer_(policy.install == Install::prometheus_web ? places.web_config : policy.install == Install::nginx ? directory_ + ".conf" : directory_ + "/current") {}

Result<tls::Store> Consumer::open_store() const {
    TRY(make_directory_for(base_, policy_.install == Install::nginx ? nginx::worker_group() : "prometheus"));
    return tls::Store::open(directory_, 0750, 0640);
}

Result<std::optional<std::string>> Consumer::text() const {
    if (policy_.install == Install::files) {
        std::array<char, 64> target{};
        const auto length = ::readlink(pointer_.c_str(), target.data(), target.size());
        if (length < 0 && errno == ENOENT) return std::nullopt;
        if (length < 0) return fail_errno("read link", pointer_);
        return std::string(target.data(), static_cast<std::size_t>(length));
    }
    auto file = TRY(read_unlinked(pointer_));
    if (!file) return std::nullopt;
    return std::move(file->text);
}

Result<std::optional<unsigned>> Consumer::current() const {
    const auto text = TRY(this->text());
    if (!text) return std::nullopt;
    if (policy_.install == Install::files) return generation_in(fmt::format("{}/{}/", directory_, *text), directory_, "");
    if (policy_.install == Install::nginx) {
        const auto from = text->find(directory_ + "/");
        const auto number = from == std::string::npos ? std::nullopt : generation_in(std::string_view(*text).substr(from, text->find(';', from) - from), directory_, "cert.pem");
        return number && *text == nginx_text(policy_, directory_, *number) ? number : std::nullopt;
    }
    const auto web = TRY(prometheus::read_web_tls(pointer_, *text));
    const auto absolute = [&](const std::string& path) { return path.starts_with('/') ? path : parent_of(pointer_) + "/" + path; };
    const auto certificate = generation_in(absolute(web.cert_file), directory_, "cert.pem"), key = generation_in(absolute(web.key_file), directory_, "key.pem");
    return certificate == key ? certificate : std::nullopt;
}

/// Written beside it and judged there, where relative paths mean what they will mean; then the very file that was judged gets the name.
Result<> Consumer::publish_web(std::string_view text) const {
    const auto before = TRY(read_unlinked(pointer_));
    const auto candidate = pointer_ + ".promwarden";
    std::optional<gid_t> group;
    if (before) {
        struct stat nursery {};
        if (::stat(base_.c_str(), &nursery) == 0 && nursery.st_gid != before->group) group = before->group;
    }
    TRY(tls::publish_through(base_, candidate, text, before ? before->mode & 07777 : 0640, group));
    const auto checked = world_.check_web_config ? world_.check_web_config(candidate) : Result<>{};
    if (!checked) {
        (void)remove_file(candidate);
        return checked;
    }
    if (const auto still = TRY(read_unlinked(pointer_)); still.has_value() != before.has_value() || (still && !(still->stamp == before->stamp))) {
        (void)remove_file(candidate);
        return fail(Code::stale, "edit", pointer_, "somebody changed it meanwhile");
    }
    if (::rename(candidate.c_str(), pointer_.c_str()) != 0) return fail_errno("rename", candidate);
    const Fd directory{::open(parent_of(pointer_).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    if (!directory || ::fsync(*directory) != 0) return fail_errno("sync", parent_of(pointer_));
    return {};
}

Result<> Consumer::point_to(unsigned generation) const {
    if (policy_.install == Install::files) return tls::publish_link(pointer_, std::to_string(generation));
    if (policy_.install == Install::nginx) return tls::publish_through(base_ + "/tls", pointer_, nginx_text(policy_, directory_, generation), 0644);
    const auto before = TRY(text());
    prometheus::WebTls wanted{fmt::format("{}/{}/cert.pem", directory_, generation), fmt::format("{}/{}/key.pem", directory_, generation), "", "", false};
    if (clients_too_) {  // without a bundle of its own, the right type would trust every public authority
        wanted.client_auth_type = "RequireAndVerifyClientCert";
        if (TRY(prometheus::read_web_tls(pointer_, before.value_or(""))).client_ca_file.empty()) wanted.client_ca_file = bundle_file(places_, policy_.install);
    }
    return publish_web(TRY(prometheus::edit_web_tls(pointer_, before.value_or(""), wanted)));
}

Result<> Consumer::put_back(const std::optional<std::string>& text) const {
    if (!text) return remove_file(pointer_);
    if (policy_.install == Install::files) return tls::publish_link(pointer_, *text);
    if (policy_.install == Install::nginx) return tls::publish_through(base_ + "/tls", pointer_, *text, 0644);
    return publish_web(*text);
}

namespace {

/// Where nginx serves that pair: by the policy's site, or by whatever configuration nginx has.
std::vector<Endpoint> proxy_endpoints(const Policy& policy, const Places& places, const CertificatePolicy& certificate) {
    std::vector<Endpoint> endpoints;
    if (policy.access.certificate == certificate.name) {
        for (const auto& listen : policy.access.listen)
            if (const auto endpoint = parse_endpoint(listen.find(':') == std::string::npos ? "127.0.0.1:" + listen : listen)) endpoints.push_back(*endpoint);
        return endpoints;
    }
    const auto pairs = proxy_pairs(places);
    if (!pairs) return endpoints;
    if (certificate.issuer == "watch") return pair_for(*pairs, certificate).value_or(ProxyPair{}).endpoints;
    const auto directory = fmt::format("{}/tls/{}/", places.nginx, certificate.name);
    for (const auto& pair : *pairs)
        if (pair.certificate.starts_with(directory)) endpoints.insert(endpoints.end(), pair.endpoints.begin(), pair.endpoints.end());
    return endpoints;
}

}  // namespace

std::vector<Endpoint> endpoints_of(const Policy& policy, const Places& places, const CertificatePolicy& certificate) {
    std::vector<Endpoint> endpoints;
    if (!certificate.server) return endpoints;
    if (certificate.install == Install::nginx) endpoints = proxy_endpoints(policy, places, certificate);
    if (certificate.install == Install::prometheus_web) endpoints = policy.prometheus.listen;
    if (certificate.install == Install::prometheus_web && endpoints.empty()) endpoints = {Endpoint{*parse_address("127.0.0.1"), 9090}};
    for (auto& [address, port] : endpoints)
        if (address == Address{address.family, {}}) address = *parse_address(address.family == Family::ip4 ? "127.0.0.1" : "::1");
    return endpoints;
}

}  // namespace promwarden::rotation
