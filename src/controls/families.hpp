// The functions that decide controls, one per row of the catalogue that has one. Pure: values in, a value out.
#pragma once

#include <algorithm>
#include <array>
#include <concepts>

#include "promwarden/lint.hpp"

namespace promwarden {

// network.cpp
Decision decide_packet_filter(const Policy& policy, const Facts& facts);
Decision decide_container_path(const Policy& policy, const Facts& facts);
Decision decide_bypass(const Policy& policy, const Facts& facts);

// listening.cpp, exposure.cpp
Decision decide_listen_address(const Policy& policy, const Facts& facts);
Decision decide_published_ports(const Policy& policy, const Facts& facts);
Decision decide_companion_ports(const Policy& policy, const Facts& facts);

// api.cpp
Decision decide_admin(const Policy& policy, const Facts& facts);
Decision decide_lifecycle(const Policy& policy, const Facts& facts);
Decision decide_receivers(const Policy& policy, const Facts& facts);
Decision decide_cors(const Policy& policy, const Facts& facts);
Decision decide_query_limits(const Policy& policy, const Facts& facts);

// drift.cpp, service.cpp, data.cpp: what processes and units say. Where files have a word in the same control, `combined` joins both.
Decision startable_flags(const Policy& policy, const Facts& facts);
Decision drift_of_servers(const Policy& policy, const Facts& facts);
Decision docker_socket_of_servers(const Policy& policy, const Facts& facts);
Decision retention_of_flags(const Policy& policy, const Facts& facts);
Decision decide_service_sandbox(const Policy& policy, const Facts& facts);

// process_secrets.cpp, version.cpp
Decision decide_process_secrets(const Policy& policy, const Facts& facts);
Decision decide_vulnerable(const Policy& policy, const Facts& facts);

// access.cpp
Decision decide_local_users(const Policy& policy, const Facts& facts);

// permissions.cpp
Decision decide_secret_files(const Policy& policy, const Facts& facts, const FileVerdicts& files);
Decision decide_config_permissions(const Policy& policy, const Facts& facts);
Decision decide_data_permissions(const Policy& policy, const Facts& facts);
Decision tls_file_permissions(const Policy& policy, const Facts& facts);  // the part of tls.files that owners and modes decide
Decision decide_startable(const Policy& policy, const Facts& facts, const FileVerdicts& files);
Decision startable_files(const Policy& policy, const Facts& facts);  // the part that says whether the named files are there

// web.cpp: what web.yml says, seen together with where the server listens
Decision decide_tls_server(const Policy& policy, const Facts& facts, const FileVerdicts& files);
Decision decide_client_auth(const Policy& policy, const Facts& facts, const FileVerdicts& files);
Decision decide_resumed_clients(const Policy& policy, const Facts& facts);  // tls.cpp: the part that a change of the local authority leaves behind

// storage.cpp
Decision decide_encryption(const Policy& policy, const Facts& facts);

// audit.cpp
Decision decide_query_log(const Policy& policy, const Facts& facts, const FileVerdicts& files);
Decision decide_query_log_file(const Policy& policy, const Facts& facts);

// tls.cpp
Decision decide_tls_files(const Policy& policy, const Facts& facts);
Decision decide_tls_rotation(const Policy& policy, const Facts& facts);

/// One control of several parts (flags, unit, files …): the worst verdict of fail, unknown, pass, not-applicable, with the reasons of the parts that brought it and
/// all findings.
Decision merge(std::span<Decision> parts);
template <std::same_as<Decision>... Parts>
Decision merge_of(Parts... parts) {
    std::array<Decision, sizeof...(Parts)> all{std::move(parts)...};
    return merge(all);
}

/// A control of which the configuration's texts are all there is: the row of the catalogue names it once more.
template <std::size_t N>
struct ControlId {
    char text[N]{};
    consteval ControlId(const char (&id)[N]) { std::copy_n(id, N, text); }  // NOLINT(google-explicit-constructor,modernize-avoid-c-arrays)
};
template <ControlId id>
Decision as_files_say(const Policy& /*policy*/, const Facts& /*facts*/, const FileVerdicts& files) { return files.of(id.text); }

// proxy/host.cpp
Decision decide_proxy_passwords(const Policy& policy, const Facts& facts);
Decision proxy_part(std::string_view control, const Policy& policy, const Facts& facts);
/// A control, or its part, that the proxy's configuration decides.
template <ControlId id>
Decision as_proxy_says(const Policy& policy, const Facts& facts) { return proxy_part(id.text, policy, facts); }

/// A control that is looked at from several sides: by what files say, by flags and units, by what endpoints answer.
template <auto... parts>
Decision parts_of(const Policy& policy, const Facts& facts, const FileVerdicts& files) {
    const auto ask = [&](auto part) {
        if constexpr (std::invocable<decltype(part), const Policy&, const Facts&>) return part(policy, facts);
        else return part(policy, facts, files);
    };
    return merge_of(ask(parts)...);
}

/// The decision of a control whose facts are missing.
Decision unknown(const Error& error);
Decision not_applicable(std::string reason);
/// An address that only this host reaches; one that stands for all.
bool is_loopback(const Address& address);
bool is_any(const Address& address);

/// Compares what our live table does at one hook with what the policy means: the chains there, the chains they lead to, and the sets they look into. Without a
/// hook, the whole table. `passed` is the reason given when nothing differs.
Decision compare_ruleset(const Policy& policy, const Facts& facts, std::optional<Hook::Point> hook, std::string passed);

}  // namespace promwarden
