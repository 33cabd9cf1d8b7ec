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

// access.cpp
Decision decide_local_users(const Policy& policy, const Facts& facts);

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
/// A control that the proxy's configuration decides, and one that it decides together with Prometheus' own files.
template <ControlId id>
Decision as_proxy_says(const Policy& policy, const Facts& facts) { return proxy_part(id.text, policy, facts); }
template <ControlId id>
Decision as_files_and_proxy_say(const Policy& policy, const Facts& facts, const FileVerdicts& files) { return merge_of(files.of(id.text), proxy_part(id.text, policy, facts)); }

/// The decision of a control whose facts are missing.
Decision unknown(const Error& error);
Decision not_applicable(std::string reason);

/// Compares what our live table does at one hook with what the policy means: the chains there, the chains they lead to, and the sets they look into. Without a
/// hook, the whole table. `passed` is the reason given when nothing differs.
Decision compare_ruleset(const Policy& policy, const Facts& facts, std::optional<Hook::Point> hook, std::string passed);

}  // namespace promwarden
