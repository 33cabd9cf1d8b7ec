// What nginx is configured to serve: which pairs, at which endpoints, for which names.

#include <algorithm>

#include <fmt/format.h>
#include <glob.h>

#include "parts.hpp"
#include "promwarden/nginx.hpp"

namespace promwarden::rotation {

namespace {

constexpr std::size_t largest_config = 8 << 20;
constexpr std::size_t most_files = 2'000;

/// Only files that nobody but root could have written say which key is whose.
class TrustedFiles final : public nginx::Files {
public:
    Result<std::string> read(const std::string& path) override { return TRY(read_trusted_file(path, largest_config)).text; }
    Result<std::vector<std::string>> match(const std::string& pattern) override {
        glob_t found{};
        const int status = ::glob(pattern.c_str(), 0, nullptr, &found);
        const Handle<glob_t, ::globfree> held(&found);
        if (status == GLOB_NOMATCH) return std::vector<std::string>();
        if (status != 0 || found.gl_pathc > most_files) return fail(Code::failed, "list", pattern);
        return std::vector<std::string>(found.gl_pathv, found.gl_pathv + found.gl_pathc);
    }
};

std::string path_in(const nginx::Level& level, std::string_view directive, const std::string& prefix) {
    const auto* setting = level.setting(directive);
    const auto path = setting == nullptr ? std::string_view() : setting->word(0);
    if (path.empty() || path.find('$') != std::string_view::npos) return {};
    return path.starts_with('/') ? std::string(path) : fmt::format("{}/{}", prefix, path);
}

std::optional<Endpoint> endpoint_of(const nginx::Listen& listen) {
    if (!listen.ssl || listen.proxy_protocol) return std::nullopt;
    auto address = parse_address(listen.address);
    if (!address) return std::nullopt;
    if (*address == Address{address->family, {}}) address = parse_address(address->family == Family::ip4 ? "127.0.0.1" : "::1");
    return Endpoint{*address, listen.port};
}

}  // namespace

Result<std::vector<ProxyPair>> proxy_pairs(const Places& places) {
    TrustedFiles files;
    const auto prefix = places.nginx_config.substr(0, places.nginx_config.rfind('/'));
    auto tree = nginx::read(places.nginx_config, TRY(files.read(places.nginx_config)), prefix, &files);
    if (tree.problem)
        return fail(Code::invalid, "read", tree.files[tree.problem->at.file],
                    fmt::format("line {}: {}", tree.problem->at.line, tree.problem->message));
    const auto configuration = nginx::compile(std::move(tree));
    std::vector<ProxyPair> pairs;
    for (const auto& server : configuration->servers) {
        ProxyPair pair{
            path_in(*server.level, "ssl_certificate", prefix), path_in(*server.level, "ssl_certificate_key", prefix), server.names, {}};
        if (pair.certificate.empty() || pair.key.empty()) continue;
        for (const auto& listen : server.listens)
            if (const auto endpoint = endpoint_of(listen); endpoint && std::ranges::find(pair.endpoints, *endpoint) == pair.endpoints.end())
                pair.endpoints.push_back(*endpoint);
        pairs.push_back(std::move(pair));
    }
    return pairs;
}

std::optional<ProxyPair> pair_for(const std::vector<ProxyPair>& pairs, const CertificatePolicy& policy) {
    for (const auto& name : policy.names)
        for (const auto& pair : pairs)
            if (std::ranges::find(pair.names, name) != pair.names.end()) return pair;
    if (pairs.empty() || std::ranges::any_of(pairs, [&](const ProxyPair& pair) { return pair.certificate != pairs.front().certificate; }))
        return std::nullopt;
    return pairs.front();  // whatever its servers are called, there is but one
}

}  // namespace promwarden::rotation
