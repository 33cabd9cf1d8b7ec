#include <algorithm>

#include <fmt/format.h>

#include "build.hpp"

namespace promwarden::policy {

namespace {

std::vector<TlsPolicy::Issuer> build_issuers(const Reader& tls) {
    std::vector<TlsPolicy::Issuer> issuers;
    Unique names("issuer", tls.notes());
    for (const auto& block : tls.blocks("issuer")) {
        TlsPolicy::Issuer issuer{block.text("name"), {}};
        names.add(issuer.name, block.at("name"));
        if (issuer.name == "local" || issuer.name == "watch") block.notes().add(block.at("name"), fmt::format("'{}' is taken: it has a meaning of its own", issuer.name));
        const auto items = block.items("command");
        if (!items.empty() && !fits(Type::path, items.front().text))
            block.notes().add(items.front().at, "the first part of an issuer's command must be the absolute path of its program");
        for (const auto& item : items) issuer.command.push_back(item.text);
        issuers.push_back(std::move(issuer));
    }
    return issuers;
}

CertificatePolicy build_certificate(const Reader& table, const std::vector<TlsPolicy::Issuer>& issuers) {
    CertificatePolicy certificate;
    certificate.name = table.text("name");
    certificate.where = table.notes().where(table.at());
    certificate.server = table.choice<int>("use") == 0;
    certificate.names = table.texts("names");
    certificate.issuer = table.text("issuer");
    certificate.key = table.choice<CertificatePolicy::Key>("key");
    certificate.lifetime = table.duration("lifetime").value_or(std::chrono::seconds{0});
    certificate.rekey = table.duration("rekey").value_or(std::chrono::seconds{0});
    certificate.install = table.choice<CertificatePolicy::Install>("install");
    std::vector<std::string_view> known{"local", "watch"};
    for (const auto& issuer : issuers) known.push_back(issuer.name);
    if (std::ranges::find(known, certificate.issuer) == known.end())
        table.notes().add(table.find("issuer")->at, fmt::format("unknown issuer '{}'", certificate.issuer), nearest_hint(certificate.issuer, known));
    if (certificate.issuer == "watch" && certificate.install == CertificatePolicy::Install::files)
        table.notes().add(table.at("issuer"), "nobody says where that certificate is: install = \"prometheus-web\" or \"nginx\" names the service that uses it");
    return certificate;
}

std::map<std::string, std::vector<std::string>> build_roles(const Reader& roles) {
    std::map<std::string, std::vector<std::string>> result;
    for (const auto& entry : roles.entries()) {
        if (!fits(Type::role, entry.key)) roles.notes().add(entry.at, fmt::format("'{}' is not the name of a role: letters, digits, '_' and '-'", key_text(entry.key)));
        result[entry.key] = roles.texts(entry.key);
    }
    return result;
}

std::map<std::string, std::string> build_endpoints(const Reader& endpoints, const std::map<std::string, std::vector<std::string>>& roles) {
    std::map<std::string, std::string> result;
    std::vector<std::string_view> known{"admin", "viewer"};
    for (const auto& [name, members] : roles) known.push_back(name);
    for (const auto& entry : endpoints.entries()) {
        if (!entry.key.starts_with('/')) endpoints.notes().add(entry.at, fmt::format("'{}' is not the path of an endpoint: it starts with '/'", key_text(entry.key)));
        const auto role = endpoints.text(entry.key);
        if (!role.empty() && std::ranges::find(known, role) == known.end())
            endpoints.notes().add(entry.value.at, fmt::format("unknown role '{}'", role), nearest_hint(role, known));
        result[entry.key] = role;
    }
    return result;
}

AccessPolicy::IdentityProvider build_identity_provider(const Reader& table) {
    AccessPolicy::IdentityProvider provider;
    (void)table.choice<int>("kind");  // there is one
    provider.kind = "oauth2-proxy";
    provider.config = table.text("config");
    const auto mfa = table.section("mfa");
    provider.mfa_required = mfa.flag("required");
    provider.mfa_claim = mfa.text("claim");
    provider.mfa_attested_until = mfa.moment("attested_until");
    return provider;
}

}  // namespace

TlsPolicy build_tls(const Reader& table) {
    TlsPolicy tls;
    tls.min_version = table.choice<int>("min_version") == 0 ? "1.2" : "1.3";
    tls.require_client_certificate = table.choice<int>("client_auth") == 1;
    tls.name_constraints = table.flag("name_constraints");
    for (const auto& text : table.texts("maintenance"))
        if (auto window = parse_window(text)) tls.maintenance.push_back(std::move(*window));
    tls.issuers = build_issuers(table);
    Unique names("certificate", table.notes());
    for (const auto& block : table.blocks("certificate")) {
        tls.certificates.push_back(build_certificate(block, tls.issuers));
        names.add(tls.certificates.back().name, block.at("name"));
    }
    return tls;
}

AccessPolicy build_access(const Reader& table, const TlsPolicy& tls) {
    AccessPolicy access;
    access.present = true;
    (void)table.choice<int>("proxy");  // there is one
    access.auth = table.choice<int>("auth") == 0 ? "basic" : "auth-request";
    access.server_name = table.text("server_name");
    access.listen = table.texts("listen");
    access.certificate = table.text("certificate");
    access.auth_url = table.text("auth_url");
    if (access.auth == "auth-request" && access.auth_url.empty() && !table.has("auth_url"))
        table.notes().add(table.find("auth")->at, "auth = \"auth-request\" needs 'auth_url'", "for example: auth_url = \"http://127.0.0.1:4180\"");
    std::vector<std::string_view> known;
    for (const auto& certificate : tls.certificates) known.push_back(certificate.name);
    if (!access.certificate.empty() && std::ranges::find(known, access.certificate) == known.end())
        table.notes().add(table.find("certificate")->at, fmt::format("unknown certificate '{}'", access.certificate), nearest_hint(access.certificate, known));
    access.roles = build_roles(table.section("roles"));
    access.endpoints = build_endpoints(table.section("endpoints"), access.roles);
    if (table.has("identity_provider")) access.identity_provider = build_identity_provider(table.section("identity_provider"));
    return access;
}

}  // namespace promwarden::policy
