// Any text as a Compose file.

#include "linted.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) { return lint_as(promwarden::prometheus::FileKind::compose, data, size); }
