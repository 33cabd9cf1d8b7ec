// Any text as oauth2-proxy's configuration.

#include "linted.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) { return lint_as(promwarden::prometheus::FileKind::oauth2_proxy, data, size); }
