// The two keys of a policy that the probe's worker reads by itself.

#include <array>

#include <fmt/format.h>

#include "value.hpp"

namespace promwarden {

namespace {

constexpr std::size_t longest = 4 << 20;
constexpr std::size_t most_drop_ins = 64;

Result<> add(const std::string& path, PrometheusPolicy::Probe& probe) {
    const auto file = TRY(read_trusted_file(path, longest));
    const auto tree = policy::read_toml(file.text, 0);
    if (!tree) return fail(Code::invalid, "read", path, tree.error().message);
    const auto* prometheus = tree->find("prometheus");
    const auto* table = prometheus == nullptr ? nullptr : prometheus->value.find("probe");
    if (table == nullptr) return {};
    if (const auto* user = table->value.find("user")) probe.user = user->value.text;
    if (const auto* password = table->value.find("password_file")) probe.password_file = password->value.text;
    return {};
}

}  // namespace

Result<PrometheusPolicy::Probe> read_probe(const std::string& path) {
    PrometheusPolicy::Probe probe;
    TRY(add(path, probe));
    const auto directory = path.substr(0, path.rfind('/') + 1) + "policy.d";
    const auto names = TRY(list_trusted_directory(directory, ".toml"));
    if (names.size() > most_drop_ins) return fail(Code::limit, "read", directory, fmt::format("more than {} files", most_drop_ins));
    for (const auto& name : names) TRY(add(fmt::format("{}/{}", directory, name), probe));
    if (!probe.password_file.empty() && !probe.password_file.starts_with('/')) return fail(Code::invalid, "read", "prometheus.probe.password_file", "it must be an absolute path");
    return probe;
}

}  // namespace promwarden
