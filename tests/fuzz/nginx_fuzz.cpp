// Any text as an nginx configuration, and its first line as a request target: read, compiled and asked, without a crash and within bounds.

#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "promwarden/nginx.hpp"

using namespace promwarden;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    const auto configuration = nginx::compile(nginx::read("fuzz", text));
    if (configuration->tree.problem && (configuration->tree.problem->message.empty() || (configuration->tree.problem->at.line == 0 && !configuration->tree.problem->limit))) std::abort();
    nginx::Request request;
    request.host = "example.org";
    request.decide = [](const nginx::Passed&) { return std::optional(202); };
    request.exists = [](const std::string&) { return std::optional(false); };
    const auto line = text.substr(0, text.find('\n'));
    for (const std::string_view target : {std::string_view("/"), std::string_view("/api/v1/series?x=1"), line.substr(0, 2000)}) {
        request.target = target;
        for (const auto credentials : {nginx::Request::Credentials::none, nginx::Request::Credentials::right}) {
            request.credentials = credentials;
            request.user = credentials == nginx::Request::Credentials::right ? "admin" : "";
            const auto answer = nginx::evaluate(*configuration, request);
            if (answer.kind == nginx::Answer::Kind::unknown && answer.reason.empty()) std::abort();
            if (answer.kind == nginx::Answer::Kind::passed && !answer.passed) std::abort();
            if (answer.location != nullptr) (void)nginx::path_of(*configuration, *answer.location, "proxy_pass");
        }
    }
    return 0;
}
