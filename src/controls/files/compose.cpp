// Compose files: what the services that are Prometheus, or stand beside it, publish, start with, and hold in their environment. After the Compose specification:
// interpolation, `extends`, an override file over its base, and the variables of `.env`.

#include <algorithm>
#include <set>

#include <fmt/format.h>

#include "deployment.hpp"
#include "interpolation.hpp"

namespace promwarden {

namespace {

using namespace deployment;
using yaml::Node;

constexpr int most_extensions = 8;

// ---- the file, and those beside it ----------------------------------------------------------------------------------

std::string_view base_name(std::string_view path) {
    return path.substr(path.rfind('/') == std::string_view::npos ? 0 : path.rfind('/') + 1);
}

std::string_view directory_of(std::string_view path) { return path.substr(0, path.size() - base_name(path).size()); }

/// "docker-compose.override.yml" → "docker-compose.yml"; "" for any other name.
std::string base_of_override(std::string_view path) {
    auto name = std::string(base_name(path));
    for (const std::string_view mark : {".override.", ".overrides."})
        if (const auto at = name.find(mark); at != std::string::npos) return name.erase(at, mark.size() - 1);
    return {};
}

/// The name of a file in the same directory; "" for one elsewhere.
std::string same_directory(std::string_view name) {
    while (name.starts_with("./")) name.remove_prefix(2);
    return name.empty() || name.find('/') != std::string_view::npos || name.find('$') != std::string_view::npos ? std::string()
                                                                                                                : std::string(name);
}

struct Extension {
    std::string file, service;  // no file: the same
};
std::optional<Extension> extension_of(const Node& service) {
    const auto* extends = service.find("extends");
    if (extends == nullptr) return std::nullopt;
    if (extends->kind == Node::Kind::scalar) return Extension{{}, std::string(extends->scalar())};
    const auto *file = extends->find("file"), *name = extends->find("service");
    if (name == nullptr) return std::nullopt;
    return Extension{file == nullptr ? std::string() : std::string(file->scalar()), std::string(name->scalar())};
}

const Node* services_of(const yaml::Tree& tree) {
    if (tree.documents.empty() || tree.documents.front()->kind != Node::Kind::mapping) return nullptr;
    const auto* services = tree.documents.front()->find("services");
    return services != nullptr && services->kind == Node::Kind::mapping ? services : nullptr;
}

bool looks_like_a_service(const Node& node) {
    constexpr std::string_view keys[] = {"image",   "build",          "extends", "ports",  "command",  "environment",
                                         "volumes", "container_name", "restart", "deploy", "networks", "depends_on"};
    return std::ranges::any_of(keys, [&](std::string_view key) { return node.entry(key) != nullptr; });
}

/// The first form of Compose had services at the top level.
bool is_first_form(const Node& root) {
    return !root.entries.empty() && std::ranges::all_of(root.entries, [](const yaml::Entry& entry) {
        return entry.value->kind == Node::Kind::mapping &&
               (entry.value->entry("image") != nullptr || entry.value->entry("build") != nullptr) && looks_like_a_service(*entry.value);
    });
}

struct File {
    std::string path;
    yaml::Tree tree;
    const Node* services = nullptr;
};

std::optional<File> read_compose(const std::string& path, std::string_view text) {
    auto tree = yaml::read(text);
    if (!tree && !tree.error().limit && prometheus::has_template_marks(text)) tree = yaml::read(prometheus::without_templates(text).text);
    if (!tree || tree->documents.empty() || tree->documents.front()->kind != Node::Kind::mapping) return std::nullopt;
    const auto* services = services_of(*tree);
    const auto& root = *tree->documents.front();
    if (root.entry("apiVersion") != nullptr) return std::nullopt;
    if (services == nullptr && is_first_form(root)) services = &root;
    if (services == nullptr || std::ranges::none_of(services->entries, [](const yaml::Entry& entry) {
            return entry.value->kind == Node::Kind::mapping && looks_like_a_service(*entry.value);
        }))
        return std::nullopt;
    return File{path, *std::move(tree), services};
}

/// A service with what it takes over: the nearest definition of each key comes first.
struct Layer {
    const Node* service;
    std::string path;  // "services.prometheus"
    const File* file;
};

class Project {
public:
    Project(File file, std::span<const InputFile> neighbours) {
        files_.push_back(std::move(file));
        for (const auto& each : neighbours) {
            if (directory_of(each.path) != directory_of(own().path) || each.path == own().path) continue;
            if (base_name(each.path) == ".env")
                unit::read_environment(environment, each.path, each.text);
            else if (auto read = read_compose(each.path, each.text))
                files_.push_back(*std::move(read));
        }
    }

    [[nodiscard]] const File& own() const { return files_.front(); }

    [[nodiscard]] std::vector<Layer> layers(const yaml::Entry& service) const {
        std::vector<Layer> all{{service.value, path_of(own(), service.key), &own()}};
        extend(all);
        const auto base = base_of_override(own().path);
        if (const auto* below = base.empty() ? nullptr : file_named(base); below != nullptr)
            if (const auto* same = below->services->find(service.key)) {
                all.push_back({same, path_of(*below, service.key), below});
                extend(all);
            }
        return all;
    }

    unit::Environment environment;

private:
    static std::string path_of(const File& file, std::string_view name) {
        return file.services == file.tree.documents.front() ? std::string(name) : fmt::format("services.{}", name);
    }

    [[nodiscard]] const File* file_named(std::string_view name) const {
        const auto found = std::ranges::find(files_, name, [](const File& file) { return base_name(file.path); });
        return found == files_.end() ? nullptr : &*found;
    }

    void extend(std::vector<Layer>& all) const {
        for (int i = 0; i < most_extensions; ++i) {
            const auto extension = extension_of(*all.back().service);
            const auto* file = !extension                ? nullptr
                               : extension->file.empty() ? all.back().file
                                                         : file_named(same_directory(extension->file));
            const auto* service = file == nullptr ? nullptr : file->services->find(extension->service);
            if (service == nullptr || std::ranges::find(all, service, &Layer::service) != all.end()) return;
            all.push_back({service, path_of(*file, extension->service), file});
        }
    }

    std::vector<File> files_;
};

struct Setting {
    const Node* node = nullptr;
    const Layer* layer = nullptr;
};
Setting setting(std::span<const Layer> layers, std::string_view key) {
    for (const auto& layer : layers)
        if (const auto* node = layer.service->find(key); node != nullptr && !node->null()) return {node, &layer};
    return {};
}

Spot spot_of(const Layer& layer, const Node& node, std::string_view below) {
    return {node.at.line, node.at.column, layer.path + std::string(below), layer.file->path};
}

// ---- services -------------------------------------------------------------------------------------------------------

class Judge {
public:
    Judge(Notes& notes, const Project& project) : notes_(notes), project_(project) {}

    void run() {
        const auto& services = project_.own().services->entries;
        const bool about =
            std::ranges::any_of(services, [&](const yaml::Entry& entry) { return is_prometheus(entry.key, project_.layers(entry)); });
        if (!about) return;
        for (const auto& entry : services) {
            const auto layers = project_.layers(entry);
            environment(layers.front());
            if (is_prometheus(entry.key, layers))
                server(layers);
            else
                companion(layers);
        }
    }

private:
    /// By its image; by what it is called where it is built here.
    [[nodiscard]] bool is_prometheus(std::string_view name, std::span<const Layer> layers) const {
        if (const auto image = setting(layers, "image"); image.node != nullptr) {
            Interpolation put_in(project_.environment);
            return is_prometheus_image(put_in(image.node->scalar()));
        }
        return setting(layers, "build").node != nullptr && name == "prometheus";
    }

    void environment(const Layer& layer) {
        const auto* node = layer.service->find("environment");
        if (node == nullptr) return;
        notes_.touch(secrets, "no secret in the environment");
        for (const auto& entry : node->entries)
            judge_variable(notes_, entry.key, entry.value->scalar(),
                           {entry.at.line, entry.at.column, fmt::format("{}.environment.{}", layer.path, entry.key), {}});
        for (std::size_t i = 0; i < node->items.size(); ++i) {
            const auto text = node->items[i]->scalar();
            if (const auto equals = text.find('='); equals != std::string_view::npos)
                judge_variable(notes_, text.substr(0, equals), text.substr(equals + 1),
                               spot_of(layer, *node->items[i], fmt::format(".environment[{}]", i)));
        }
    }

    void server(std::span<const Layer> layers) {
        const auto mode = setting(layers, "network_mode");
        auto command = command_of(layers);
        command.on_host = mode.node != nullptr && mode.node->scalar() == "host";
        judge_command(notes_, command);
        if (command.on_host) return;  // "ports" means nothing then: where Prometheus listens counts
        std::string port = "9090";
        for (const auto& word : command.words)
            if (word.text.starts_with("--web.listen-address=") && word.text.rfind(':') != std::string::npos)
                port = word.text.substr(word.text.rfind(':') + 1);
        notes_.touch(published, "nothing is published");
        each_port(layers, [&](const PublishedPort& publication, const Spot& spot) { judge_publication(notes_, publication, spot, port); });
    }

    /// Alertmanager, Pushgateway, exporters, Grafana …: they answer whoever reaches them.
    void companion(std::span<const Layer> layers) {
        const auto image = setting(layers, "image");
        const auto mode = setting(layers, "network_mode");
        if (image.node == nullptr || (mode.node != nullptr && mode.node->scalar() == "host")) return;
        const auto name = companion_image(image.node->scalar());
        if (name.empty()) return;
        notes_.touch(companions, "what stands beside Prometheus is published on loopback only");
        each_port(layers, [&](const PublishedPort& publication, const Spot& spot) {
            if (publication.container.empty() || stays_on_loopback(publication.address) || declared(publication)) return;
            if (!publication.whole && publication.address.empty())
                return notes_.undecided(companions, spot, "the address or the port is filled in later");
            notes_.fail(companions, spot, "127.0.0.1, or no publication at all",
                        fmt::format("{} is published {}", name,
                                    publication.address.empty() || publication.address == "0.0.0.0" ? "on every address"
                                                                                                    : "on an address that is not loopback"),
                        fmt::format("write \"127.0.0.1:{}:{}{}\", or remove it: Prometheus reaches it over their network",
                                    publication.host.empty() ? publication.container : publication.host, publication.container,
                                    publication.udp ? "/udp" : ""));
        });
    }

    /// Open by the policy, or guarded by its ruleset.
    [[nodiscard]] bool declared(const PublishedPort& publication) const {
        const auto* policy = notes_.options().policy;
        if (policy == nullptr) return false;
        const auto port = publication.host.empty() ? publication.container : publication.host;
        return std::ranges::any_of(policy->firewall.open_ports,
                                   [&](std::uint16_t open) { return names_port(port, std::to_string(open)); }) ||
               std::ranges::any_of(policy->firewall.services, [&](const Service& service) {
                   return std::ranges::any_of(
                       service.ports, [&](PortRange range) { return names_port(fmt::format("{}-{}", range.first, range.last), port); });
               });
    }

    static std::string companion_image(std::string_view image) {
        image = image.substr(0, image.find('@'));
        image = image.substr(image.rfind('/') == std::string_view::npos ? 0 : image.rfind('/') + 1);
        const auto name = image.substr(0, image.find(':'));
        constexpr std::string_view whole[] = {"alertmanager",       "pushgateway", "cadvisor", "grafana",     "grafana-oss",
                                              "grafana-enterprise", "thanos",      "loki",     "oauth2-proxy"};
        const bool exporter = name.ends_with("exporter") || name.find("-exporter") != std::string_view::npos ||
                              name.find("_exporter") != std::string_view::npos;
        return exporter || std::ranges::find(whole, name) != std::end(whole) ? std::string(name) : std::string();
    }

    /// What every layer publishes; "!override" and "!reset" leave out the layers below.
    template <class Found>
    void each_port(std::span<const Layer> layers, Found&& found) {
        for (const auto& layer : layers) {
            const auto* ports = layer.service->find("ports");
            if (ports == nullptr) continue;
            for (std::size_t i = 0; i < ports->items.size(); ++i) {
                const auto& node = *ports->items[i];
                if (const auto publication = read(node)) found(*publication, spot_of(layer, node, fmt::format(".ports[{}]", i)));
            }
            if (ports->tag == "!override" || ports->tag == "!reset") return;
        }
    }

    [[nodiscard]] std::optional<PublishedPort> read(const Node& node) const {
        Interpolation put_in(project_.environment);
        if (node.kind == Node::Kind::mapping) {
            const auto text = [&](std::string_view key) {
                const auto* value = node.find(key);
                return value == nullptr ? std::string() : put_in(value->scalar());
            };
            PublishedPort publication{text("host_ip"), text("published"), text("target"), text("protocol") == "udp", true};
            publication.whole = put_in.whole || node.find("host_ip") == nullptr;
            return publication;
        }
        const auto text = put_in(node.scalar());
        auto publication = read_publication(text);
        if (!publication) return std::nullopt;
        // A variable for a port leaves the address as it is written: none.
        const bool address_is_written = separators(node.scalar()) == 1 && names_port(publication->container, publication->container);
        publication->whole = publication->whole && (put_in.whole || address_is_written);
        return publication;
    }

    [[nodiscard]] CommandText command_of(std::span<const Layer> layers) const {
        CommandText command;
        for (const std::string_view key : {"entrypoint", "command"}) {
            const auto [node, layer] = setting(layers, key);
            if (node == nullptr) continue;
            if (node->kind == Node::Kind::sequence) {
                for (std::size_t i = 0; i < node->items.size(); ++i)
                    add(command, node->items[i]->scalar(), spot_of(*layer, *node->items[i], fmt::format(".{}[{}]", key, i)));
            } else if (const auto split = unit::split_words(node->scalar())) {
                for (const auto& each : *split) add(command, each, spot_of(*layer, *node, fmt::format(".{}", key)));
            }
        }
        if (std::ranges::any_of(command.words, [](const Word& word) {
                return !word.text.starts_with("--") && (word.text == "sh" || word.text.ends_with("/sh") || word.text.ends_with("bash"));
            }))
            as_script(command);
        std::erase_if(command.words, [](const Word& word) {
            return !word.text.starts_with('-') && (word.text.ends_with("prometheus") || word.text.empty());
        });
        return command;
    }

    void add(CommandText& command, std::string_view text, const Spot& spot) const {
        Interpolation put_in(project_.environment);
        auto word = put_in(text);
        if (put_in.whole)
            command.words.push_back({std::move(word), spot});
        else
            command.whole = false;
    }

    /// What a shell makes of its words is its own; the switches that stand in its script are given all the same.
    static void as_script(CommandText& command) {
        command.script = true;
        std::vector<Word> words;
        for (const auto& each : command.words) {
            std::string_view rest = each.text;
            while (!rest.empty()) {
                const auto first = std::min(rest.find_first_not_of(" \t\r\n'\"\\;&|()"), rest.size());
                const auto end = std::min(rest.find_first_of(" \t\r\n'\"\\;&|()", first), rest.size());
                const auto word = rest.substr(first, end - first);
                if (word.starts_with("--") && word.find('$') == std::string_view::npos &&
                    prometheus::find_flag(word.substr(2, word.find('=') - 2)) != nullptr)
                    words.push_back({std::string(word), each.at});
                rest.remove_prefix(end);
            }
        }
        command.words = std::move(words);
    }

    Notes& notes_;
    const Project& project_;
};

}  // namespace

std::vector<std::string> compose_neighbours(const InputFile& file) {
    const auto read = read_compose(file.path, file.text);
    if (!read) return {};
    std::set<std::string> names{".env"};
    if (const auto base = base_of_override(file.path); !base.empty()) names.insert(base);
    for (const auto& entry : read->services->entries)
        if (const auto extension = extension_of(*entry.value); extension && !same_directory(extension->file).empty())
            names.insert(same_directory(extension->file));
    std::vector<std::string> paths;
    for (const auto& name : names) paths.push_back(std::string(directory_of(file.path)) + name);
    return paths;
}

std::optional<std::vector<FileDecision>> judge_compose(const InputFile& file, std::span<const InputFile> beside,
                                                       const LintOptions& options) {
    auto read = read_compose(file.path, file.text);
    if (!read) return std::nullopt;
    const Project project(*std::move(read), beside);
    Notes notes(file.path, options);
    Judge(notes, project).run();
    return notes.decisions("no service here is a Prometheus");
}

}  // namespace promwarden
