// What processes.cpp shares with its neighbours: short reads of /proc through a descriptor of the process' directory.
#pragma once

#include <charconv>

#include "promwarden/host.hpp"

namespace promwarden::host {

/// Code::missing where there is no such process.
Result<Fd> open_process(pid_t pid, const std::string& proc);
/// A short file of /proc, cut at about `limit`. Gone, or not ours to read: nullopt.
std::optional<std::string> read_text(const Fd& directory, const char* name, std::size_t limit = 64 * 1024);
std::optional<std::string> read_link(int directory, const char* name);
/// What follows "Name:" at the start of a line. The process chooses the first line (its name), in which the kernel escapes line ends.
std::string_view field(std::string_view status, std::string_view name);
/// Control characters replaced.
std::string printable(std::string text);
Process describe(pid_t pid, const Fd& directory, const std::string& status, const std::string& proc);
/// The inodes of the sockets that a process has descriptors of.
Result<std::set<std::uint32_t>> sockets_of(pid_t pid, const std::string& proc);
std::vector<pid_t> all_processes(const std::string& proc);

template <class Number>
std::optional<Number> number_in(std::string_view text) {
    const auto start = text.find_first_not_of(" \t");
    if (start == std::string_view::npos) return std::nullopt;
    text.remove_prefix(start);
    Number number{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc{}) return std::nullopt;
    return number;
}

}  // namespace promwarden::host
