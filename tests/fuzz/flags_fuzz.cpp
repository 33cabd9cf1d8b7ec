// Any text as arguments, as an @file, as a unit file and as an environment file: read without a crash, within the limits, and no word that is no flag is shown.

#include <cstdint>
#include <cstdlib>

#include "promwarden/unit.hpp"

using namespace promwarden;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size == 0) return 0;
    constexpr prometheus::Version versions[] = {242, 253, 255, 300, 314, 320};
    const std::string text(reinterpret_cast<const char*>(data + 1), size - 1);
    const prometheus::Build build{data[0] % 7 == 6 ? std::nullopt : std::optional(versions[data[0] % 7]), data[0] < 128 ? std::optional(data[0] % 2 == 0) : std::nullopt};

    std::vector<prometheus::Argument> arguments;
    for (std::size_t at = 0; at <= text.size();) {
        const auto end = std::min(text.find('\n', at), text.size());
        arguments.push_back({text.substr(at, end - at), {}});
        at = end + 1;
    }
    const auto line = prometheus::read_command_line("prometheus", arguments, build, [&](const std::string&) -> Result<std::string> { return text; });
    if (line.flags.size() > 5000 || line.words.size() != arguments.size() + 1) std::abort();
    for (const auto& problem : line.problems)
        if (problem.empty() || problem.size() > 100'000) std::abort();

    const auto assignments = unit::read_assignments("fuzz.service", text);
    const auto merged = unit::merge("fuzz@a-b.service", assignments);
    unit::Environment environment;
    unit::add_environment(environment, merged.environment, "fuzz.service");
    unit::read_environment(environment, "fuzz", text);
    const auto command = unit::command_line(merged.exec_start, environment, "fuzz.service");
    if (!merged.exec_start.empty() && command.empty()) std::abort();
    return 0;
}
