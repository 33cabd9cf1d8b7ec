// cert — the certificates that the policy names: what there is, and making new ones.

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "agent.hpp"
#include "certificates.hpp"
#include "local.hpp"
#include "output.hpp"
#include "promwarden/rotation.hpp"

namespace promwarden::cli {

namespace {

/// One certificate, as a person reads it.
std::string paragraph(const Json& one) {
    const auto& leaf = member_at(one, "certificate");
    auto text = fmt::format("{}  ({}, {}, issued by {})\n", text_at(one, "name"), text_at(one, "use"), text_at(one, "install"), text_at(one, "issued_by"));
    const auto line = [&](std::string_view name, const std::string& value) {
        if (!value.empty()) text += fmt::format("    {:<9} {}\n", name, value);
    };
    if (leaf.is_object()) {
        std::vector<std::string> names;
        for (const auto& name : member_at(leaf, "names"))
            if (name.is_string()) names.push_back(render::printable(name.get<std::string>()));
        line("names", fmt::format("{}", fmt::join(names, ", ")));
        line("issuer", text_at(leaf, "issuer"));
        line("serial", text_at(leaf, "serial"));
        line("key", text_at(leaf, "key"));
        line("expires", text_at(leaf, "not_after"));
        line("file", text_at(one, "file"));
    } else {
        line("", "none yet");
    }
    line("due", text_at(one, "due"));
    if (text_at(one, "next_try") != text_at(one, "due")) line("next try", text_at(one, "next_try"));
    const auto& served = member_at(one, "served");
    const auto reason = text_at(one, "served_reason");
    line("served", served.is_boolean() ? served.get<bool>() ? "yes" : reason.empty() ? "no, another one is" : "no, " + reason : "nobody looked");
    for (const auto& problem : member_at(one, "problems"))
        if (problem.is_string()) line("problem", render::printable(problem.get<std::string>()));
    line("failed", text_at(one, "last_error"));
    return text;
}

Or<Candidate> policy_of(const Options& options) { return load_policy(options.policy); }

const CertificatePolicy* find(const Policy& policy, const std::string& name) {
    const auto found = std::ranges::find(policy.tls.certificates, name, &CertificatePolicy::name);
    return found == policy.tls.certificates.end() ? nullptr : &*found;
}

Or<Json> list_here(const Options& options) {
    const auto candidate = TRY(policy_of(options));
    const auto world = world_for(options, candidate.policy);
    const auto facts = TRY(rotation::observe(candidate.policy, rotation::places_of(candidate.policy, options.state), world));
    Json list = Json::array();
    for (const auto& one : facts.certificates) list.push_back(rotation::to_json(one, candidate.policy, facts, world.now()));
    return Json{{"certificates", std::move(list)}};
}

Or<Json> rotate_here(const Options& options, bool rekey) {
    const auto candidate = TRY(policy_of(options));
    const auto* policy = find(candidate.policy, options.argument);
    if (policy == nullptr) return failure(Exit::usage, fmt::format("the policy names no certificate '{}'", render::printable(options.argument)));
    auto engine = TRY(open_to_act(options));  // for the history
    auto rotator = TRY(rotation::Rotator::open(rotation::places_of(candidate.policy, options.state), world_for(options, candidate.policy), candidate.policy));
    const auto done = rotator.rotate(*policy, rekey, options.force);
    if (!done) return failure(Exit::undone, done.error().text());
    record(engine, Event::Kind::rotation, "certificate " + policy->name, "renewed", sentence(rotation::to_json(*done)));
    return Json{{"rotations", {rotation::to_json(*done)}}};
}

Or<Json> roll_over_here(const Options& options) {
    const auto candidate = TRY(policy_of(options));
    auto engine = TRY(open_to_act(options));
    auto rotator = TRY(rotation::Rotator::open(rotation::places_of(candidate.policy, options.state), world_for(options, candidate.policy), candidate.policy));
    const auto step = rotator.roll_over(options.until_overlap);
    if (!step) return failure(Exit::undone, step.error().text());
    for (const auto& note : rotator.notes()) record(engine, Event::Kind::rotation, "the local authority", "nobody of the old one is let in", note);
    record(engine, Event::Kind::rotation, "the local authority", "changed", std::string(rotation::to_text(*step)));
    return Json{{"step", rotation::to_text(*step)}, {"notes", rotator.notes()}};
}

Outcome show_rotations(const Options& options, const Json& answer) {
    if (options.format == render::Format::json) {
        TRY(write_result(options, json_text(answer) + "\n"));
        return Exit::holds;
    }
    TRY(write_result(options, account_of(answer)));
    return Exit::holds;
}

Outcome rotate_one(const Options& options, std::string_view what, bool rekey) {
    TRY(require_root(what));
    auto agent = TRY(Agent::find(options));
    const auto answer = agent ? TRY(agent->call("Rotate", Json{{"name", options.argument}, {"rekey", rekey}, {"force", options.force}}, longest_rotation)) : TRY(rotate_here(options, rekey));
    return show_rotations(options, answer);
}

}  // namespace

Outcome cert_list(const Options& options) {
    TRY(require_root("cert list"));
    auto agent = TRY(Agent::find(options));
    const auto answer = agent ? TRY(agent->call("Certificates", Json::object())) : TRY(list_here(options));
    const auto& list = member_at(answer, "certificates");
    if (options.format == render::Format::json) {
        TRY(write_result(options, json_text(list) + "\n"));
        return Exit::holds;
    }
    std::string text = list.empty() ? "The policy names no certificate.\n" : "";
    for (const auto& one : list) text += paragraph(one);
    TRY(write_result(options, text));
    return Exit::holds;
}

Outcome cert_issue(const Options& options) { return rotate_one(options, "cert issue", true); }

Outcome cert_rotate(const Options& options) { return rotate_one(options, "cert rotate", options.rekey); }

Outcome cert_rotate_ca(const Options& options) {
    TRY(require_root("cert rotate-ca"));
    auto agent = TRY(Agent::find(options));
    const auto answer = agent ? TRY(agent->call("Rotate", Json{{"authority", true}, {"until_overlap", options.until_overlap}}, longest_rotation)) : TRY(roll_over_here(options));
    if (options.format == render::Format::json) {
        TRY(write_result(options, json_text(answer) + "\n"));
        return Exit::holds;
    }
    const auto step = text_at(answer, "step");
    std::string text = "A new authority signs, and the old one is believed no more.\n";
    if (step == "overlap") text = "Both authorities are in every bundle on this host. Give the bundle to other hosts, then run 'promwarden cert rotate-ca' again.\n";
    if (step == "reissue") text = "The new authority signs, and both are believed: a certificate of the old one is still served. Run this again, or let the agent go on.\n";
    TRY(write_result(options, text + account_of(answer)));
    return Exit::holds;
}

}  // namespace promwarden::cli
