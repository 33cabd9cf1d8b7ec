// The exit status: one place that decides it for every command and every format.

#include <algorithm>

#include "command.hpp"

namespace promwarden::cli {

Failure::Failure(const Error& error) : exit(exit_of(error)), text(error.text()) {}

Exit exit_of(const Error& error) { return error.code == Code::denied ? Exit::denied : Exit::undetermined; }

Exit exit_of_apply(const Error& error) {
    switch (error.code) {
        case Code::conflict: return Exit::usage;
        case Code::denied: return Exit::denied;
        default: return Exit::undone;
    }
}

Exit exit_of_call(std::string_view method, const Error& error, std::string_view name) {
    constexpr std::string_view own = "io.promwarden.";
    if (name.starts_with(own)) {
        name.remove_prefix(own.size());
        if (name == "PolicyInvalid" || name == "Refused" || name == "NoPolicy" || name == "NothingPending") return Exit::usage;
        if (name == "NotPermitted") return Exit::denied;
        return name == "Failed" && (method == "Apply" || method == "Rotate") ? Exit::undone : Exit::undetermined;
    }
    return exit_of(error);
}

Exit exit_of(const Report& report, Severity fail_on) { return static_cast<Exit>(exit_status(report, fail_on)); }

Exit exit_of(const Plan& plan, Severity fail_on) {
    const auto counts = [&](const Change& change) {
        const auto* control = find_control(change.control);
        return control == nullptr || control->severity <= fail_on;
    };
    return std::ranges::any_of(plan.changes, counts) ? Exit::fails : Exit::holds;
}

}  // namespace promwarden::cli
