// Answers requests from a configuration, for nginx_test.py, which asks the real nginx the same: JSON lines in, JSON lines out.

#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>

#include <fnmatch.h>
#include <nlohmann/json.hpp>

#include "promwarden/nginx.hpp"

using namespace promwarden;

namespace {

/// Those of the test's own directory.
class Disk final : public nginx::Files {
public:
    Result<std::string> read(const std::string& path) override {
        std::ifstream file(path, std::ios::binary);
        if (!file) return fail(Code::missing, "open", path, "No such file or directory");
        return std::string(std::istreambuf_iterator<char>(file), {});
    }
    Result<std::vector<std::string>> match(const std::string& pattern) override {
        std::vector<std::string> paths;
        for (const auto& each : std::filesystem::directory_iterator(std::filesystem::path(pattern).parent_path()))
            if (::fnmatch(pattern.c_str(), each.path().c_str(), FNM_PATHNAME) == 0) paths.push_back(each.path());
        std::ranges::sort(paths);
        return paths;
    }
};

/// The test's identity service, which looks at the cookie that reaches it; the other backends know no /oauth2/.
std::optional<int> decide(const nginx::Passed& passed) {
    if (passed.authority != "oauth2") return passed.target.starts_with("/oauth2") ? 404 : 200;
    std::string cookie;
    for (const auto& header : passed.headers)
        if (header.name == "Cookie") cookie = header.value;
    if (passed.target.starts_with("/broken")) return 404;
    if (cookie.find("session=good") != std::string::npos) return 202;
    if (cookie.find("session=guest") != std::string::npos && passed.target.starts_with("/second")) return 202;
    return cookie.find("session=guest") != std::string::npos ? 403 : 401;
}

nginx::Request request_of(const Json& json) {
    nginx::Request request;
    request.method = json["method"];
    request.target = json["target"];
    request.host = json["host"];
    request.client = json["client"];
    request.listener = json["listener"];
    request.tls = json.value("tls", false);
    request.user = json["user"];
    const std::string credentials = json["credentials"];
    request.credentials = credentials == "right" ? nginx::Request::Credentials::right : credentials == "wrong" ? nginx::Request::Credentials::wrong : nginx::Request::Credentials::none;
    for (const auto& header : json["headers"]) request.headers.push_back({header[0], header[1]});
    request.decide = decide;
    request.exists = [](const std::string& path) { return path.ends_with('/') ? std::filesystem::is_directory(path) : std::filesystem::is_regular_file(path); };
    return request;
}

Json json_of(const nginx::Answer& answer) {
    constexpr const char* kinds[] = {"status", "passed", "file", "closed", "unknown"};
    Json json = {{"kind", kinds[static_cast<std::size_t>(answer.kind)]}, {"status", answer.status}, {"reason", answer.reason}, {"uri", answer.uri}};
    if (!answer.redirect.empty()) json["redirect"] = answer.redirect;
    if (answer.location != nullptr) json["location"] = answer.location->name;
    for (const auto& step : answer.steps) json["steps"].push_back(step.text);
    if (!answer.passed) return json;
    json["passed"] = {{"authority", answer.passed->authority}, {"method", answer.passed->method}, {"target", answer.passed->target}, {"headers", Json::array()}};
    for (const auto& header : answer.passed->headers) json["passed"]["headers"].push_back({header.name, header.value});
    return json;
}

}  // namespace

int main(int count, char** arguments) {
    if (count != 2) return 2;
    Disk disk;
    const auto text = disk.read(arguments[1]);
    if (!text) return 2;
    const auto configuration = nginx::compile(nginx::read(arguments[1], *text, std::filesystem::path(arguments[1]).parent_path(), &disk));
    if (const auto& problem = configuration->tree.problem) {
        std::cerr << arguments[1] << ":" << problem->at.line << ": " << problem->message << "\n";
        return 1;
    }
    for (std::string line; std::getline(std::cin, line);) std::cout << json_text(json_of(nginx::evaluate(*configuration, request_of(Json::parse(line))))) << "\n";
    return 0;
}
