// policy check, policy show — the policy itself, without looking at the host.

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "local.hpp"
#include "output.hpp"

namespace promwarden::cli {

namespace {

std::string counted(std::size_t count, std::string_view what) { return fmt::format("{} {}{}", count, what, count == 1 ? "" : "s"); }

std::string summary_of(const Policy& policy) {
    std::size_t networks = 0;
    for (const auto& group : policy.firewall.sources) networks += count(group.networks);
    return fmt::format("{} is valid: {}, {} with {}, {}, {}\n", policy.path, counted(policy.firewall.services.size(), "service"),
                       counted(policy.firewall.sources.size(), "source group"), counted(networks, "network"), counted(policy.files.size(), "file rule"),
                       counted(policy.waivers.size(), "waiver"));
}

Json where_json(const Where& where) { return {{"file", where.file}, {"line", where.line}, {"column", where.column}}; }

Json json_of(const Diagnostics& diagnostics) {
    Json list = Json::array();
    for (const auto& one : diagnostics) {
        Json json{{"location", where_json(one.where)}, {"message", one.message}};
        if (!one.hint.empty()) json["hint"] = one.hint;
        if (!one.also.file.empty()) json["also"] = where_json(one.also);
        list.push_back(std::move(json));
    }
    return list;
}

}  // namespace

Outcome policy_check(const Options& options) {
    const auto& path = options.argument.empty() ? options.policy : options.argument;
    if (options.format == render::Format::json) {
        const auto candidate = load_candidate(path);
        TRY(write_result(options, json_text(Json{{"path", path}, {"valid", candidate.has_value()}, {"diagnostics", json_of(candidate ? Diagnostics{} : candidate.error())}}) + "\n"));
        return candidate ? Exit::holds : Exit::usage;
    }
    const auto candidate = TRY(load_policy(path));
    TRY(write_result(options, summary_of(candidate.policy)));
    return Exit::holds;
}

Outcome policy_show(const Options& options) {
    const auto candidate = TRY(load_policy(options.policy));
    TRY(write_result(options, show(candidate.policy)));
    return Exit::holds;
}

}  // namespace promwarden::cli
