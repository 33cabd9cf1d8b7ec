#include "output.hpp"

#include <cstdlib>

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

namespace promwarden::cli {

namespace {

Result<> write_all(int fd, std::string_view text, const std::string& name) {
    while (!text.empty()) {
        const auto size = ::write(fd, text.data(), text.size());
        if (size < 0 && errno == EINTR) continue;
        if (size < 0) return fail_errno("write", name);
        text.remove_prefix(static_cast<std::size_t>(size));
    }
    return {};
}

/// What open(2) would give a new file.
mode_t new_file_mode() {
    const auto mask = ::umask(0);
    ::umask(mask);
    return 0666 & ~mask;
}

/// Replacing a device or a link by a file would be a surprise.
Or<> regular_or_new(const std::string& path) {
    struct stat status {};
    if (::lstat(path.c_str(), &status) != 0 || S_ISREG(status.st_mode)) return {};
    return failure(Exit::usage, fmt::format("--output {}: it is there and is not a regular file", path));
}

}  // namespace

bool in_colour(const Options& options) {
    const char* refused = std::getenv("NO_COLOR");  // NOLINT(concurrency-mt-unsafe): one thread
    return options.output.empty() && (refused == nullptr || *refused == '\0') && ::isatty(STDOUT_FILENO) == 1;
}

Or<> write_result(const Options& options, std::string_view text) {
    if (options.output.empty()) {
        TRY(write_all(STDOUT_FILENO, text, "standard output"));
        return {};
    }
    TRY(regular_or_new(options.output));
    TRY(publish_file(options.output, text, new_file_mode()));
    return {};
}

Or<> write_line(std::string_view line) {
    TRY(write_all(STDOUT_FILENO, line, "standard output"));
    return {};
}

void note(std::string_view text) {
    // Nobody is left to be told that standard error is closed.
    static_cast<void>(write_all(STDERR_FILENO, fmt::format("promwarden: {}{}", text, text.ends_with('\n') ? "" : "\n"), "standard error"));
}

Outcome show(const Options& options, const Report& report, std::string_view before) {
    auto text = render::report(report, options.format, in_colour(options));
    if (options.format == render::Format::text && !before.empty()) text = fmt::format("{}\n{}", before, text);
    TRY(write_result(options, text));
    return exit_of(report, options.fail_on);
}

Or<> show(const Options& options, const Plan& plan, std::string_view after) {
    if (options.format == render::Format::json) return write_result(options, render::json(plan));
    return write_result(options, render::text(plan, in_colour(options)) + std::string(after));
}

}  // namespace promwarden::cli
