// TLS on the server's own listeners: web.yml says what they speak, the sockets or flags whether anybody but this host hears them.

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "named_files.hpp"

namespace promwarden {

namespace {

/// Where strangers could reach the server: its sockets, or, where it does not run, what its flags say.
struct Reachable {
    std::vector<std::string> places;
    bool known = false;
};

Reachable of_flags(const CommandLine& line) {
    Reachable found{{}, true};
    bool given = false;
    for (const auto& flag : line.flags) {
        if (flag.name != "web.listen-address") continue;
        given = true;
        const auto host = flag.value.substr(0, flag.value.rfind(':'));
        const auto address = parse_address(host.starts_with('[') && host.ends_with(']') ? host.substr(1, host.size() - 2) : host);
        if (host != "localhost" && !(address && is_loopback(*address))) found.places.push_back(flag.value);
    }
    if (!given) found.places.emplace_back("0.0.0.0:9090");
    return found;
}

Reachable reachable(const Server& server) {
    if (!server.process) return server.configured ? of_flags(*server.configured) : Reachable{};
    Reachable found{{}, !server.listeners.empty()};
    for (const auto& listener : server.listeners)
        if (listener.protocol == Protocol::tcp && !is_loopback(listener.endpoint.address)) found.places.push_back(to_text(listener.endpoint));
    return found;
}

bool speaks_tls(const ServerFiles& server) {
    return std::ranges::any_of(server.files, [](const NamedFile& file) {
        if (file.use != NamedFile::Use::web || file.text == nullptr) return false;
        const auto document = prometheus::read_document(file.path, *file.text, prometheus::FileKind::web);
        const auto* tls = document.root == nullptr ? nullptr : document.root->find("tls_server_config");
        return tls != nullptr && !tls->entries.empty();
    });
}

const ServerFiles* files_of(const Facts& facts, const Server& server) {
    if (!facts.files) return nullptr;
    const auto found = std::ranges::find(facts.files->servers, server.name, &ServerFiles::server);
    return found == facts.files->servers.end() ? nullptr : &*found;
}

}  // namespace

Decision decide_tls_server(const Policy& /*policy*/, const Facts& facts, const FileVerdicts& files) {
    auto written = files.of("tls.server");
    if (written.verdict == Verdict::fail || !facts.servers) return facts.servers ? written : merge_of(std::move(written), unknown(facts.servers.error()));
    Findings findings;
    std::vector<std::string> closed;
    for (const auto& server : *facts.servers) {
        const auto* own = files_of(facts, server);
        if (server.kind != Server::Kind::unit || own == nullptr) continue;
        if (speaks_tls(*own)) {
            findings.touch();
            continue;
        }
        const auto where = reachable(server);
        if (!where.known) continue;
        findings.touch();
        if (where.places.empty()) closed.push_back(server.name);
        else
            findings.fail({server.name, "TLS on every listener that is not loopback", fmt::format("plain HTTP on {}", fmt::join(where.places, ", ")), {}, server.process ? Evidence::kernel : Evidence::config,
                           {false, "name cert_file and key_file in tls_server_config of --web.config.file, or listen on 127.0.0.1 behind a proxy that speaks TLS"}, "plain HTTP"});
    }
    return std::move(findings).decision(closed.empty() ? "every listener speaks TLS" : "plain HTTP on loopback only", "no listener of a server is known");
}

Decision decide_client_auth(const Policy& policy, const Facts& facts, const FileVerdicts& files) {
    auto written = files.of("tls.client-auth");
    if (written.verdict != Verdict::not_applicable || !policy.tls.require_client_certificate || !facts.files) return written;
    // Clients meet the proxy where there is one; its site is judged on its own.
    if (policy.access.present) return not_applicable("clients reach the proxy, not Prometheus");
    Findings findings;
    for (const auto& server : facts.files->servers)
        if (!server.problem && !server.files.empty())
            findings.fail({server.server, "client_auth_type: RequireAndVerifyClientCert in web.yml, as the policy demands", "no client certificate is asked for", {}, Evidence::config,
                           {false, "tls_server_config: {cert_file: …, key_file: …, client_ca_file: …, client_auth_type: RequireAndVerifyClientCert}"}});
    return std::move(findings).decision({}, written.reason);
}

}  // namespace promwarden
