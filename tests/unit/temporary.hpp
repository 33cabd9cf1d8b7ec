// A directory of a test's own, gone with it.
#pragma once

#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <string_view>

#include <stdlib.h>
#include <sys/stat.h>

struct TemporaryDirectory {
    std::filesystem::path path;

    TemporaryDirectory() {
        auto name = (std::filesystem::temp_directory_path() / "promwarden-test-XXXXXX").string();
        if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("no temporary directory");
        ::chmod(name.c_str(), 0755);
        path = name;
    }
    ~TemporaryDirectory() { std::filesystem::remove_all(path); }
    TemporaryDirectory(const TemporaryDirectory&) = delete;
    TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;

    [[nodiscard]] std::string operator/(std::string_view name) const { return (path / name).string(); }

    /// Names are relative; directories on the way are made.
    void write(std::string_view name, std::string_view text) const {
        std::filesystem::create_directories((path / name).parent_path());
        std::ofstream(path / name, std::ios::binary) << text;
    }
    void link(std::string_view name, const std::string& target) const {
        std::filesystem::create_directories((path / name).parent_path());
        std::filesystem::create_symlink(target, path / name);
    }
};
