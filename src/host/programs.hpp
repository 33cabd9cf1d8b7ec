// What is known of an executable without running it: its package, its version.
#pragma once

#include "promwarden/base.hpp"

namespace promwarden::host {

/// "debian 12", from os-release; "" where there is none.
std::string distribution_of(const std::string& root);

/// The dpkg package that owns a file and the version that is installed, "prometheus 2.42.0+ds-5+b5"; "" where there is none. Other package managers are not asked.
std::string package_of(const std::string& path, const std::string& root);
/// The package manager whose database lies there, is not read here (its formats need a program of its own), and may list the file: "rpm", "apk", "pacman"; "" otherwise.
std::string unread_manager_of(const std::string& path, const std::string& root);

/// The newest version of the package in the lists of security archives that apt keeps, if it is newer than the one that is installed; "" otherwise. Lists that are kept
/// compressed are not read.
std::string security_update(const std::string& package, const std::string& root);
/// dpkg's order of versions: negative, zero or positive.
int compare_versions(std::string_view one, std::string_view other);

/// Prometheus' version in Go's build information, "2.53.1"; "" where the program was built without (Debian's are) or is none.
std::string version_in(const Fd& program);
/// The Go that built it, as "1.19.8"; "" where it says nothing.
std::string go_version_in(const Fd& program);

/// The upstream part of a package's version: "1:2.42.0+ds-5+b5" is 2.42.0.
std::string upstream_of(std::string_view package_version);

}  // namespace promwarden::host
