// explain — the catalogue, or one control of it.

#include <fmt/format.h>

#include "output.hpp"

namespace promwarden::cli {

Outcome explain(const Options& options) {
    const bool json = options.format == render::Format::json;
    if (options.argument.empty()) {
        TRY(write_result(options, json ? render::json(catalogue()) : render::text(catalogue(), in_colour(options))));
        return Exit::holds;
    }
    const auto* control = find_control(options.argument);
    if (control == nullptr) {
        std::vector<std::string_view> ids;
        for (const auto& each : catalogue()) ids.push_back(each.id);
        const auto near = nearest(options.argument, ids);
        return failure(Exit::usage, fmt::format("unknown control '{}'{}", render::printable(options.argument), near ? fmt::format("; did you mean '{}'?", *near) : ""));
    }
    TRY(write_result(options, json ? render::json(*control) : render::text(*control, in_colour(options))));
    return Exit::holds;
}

}  // namespace promwarden::cli
