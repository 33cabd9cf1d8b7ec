// systemd asked over its bus. Two calls a unit: all its properties come at once.

#include <algorithm>
#include <functional>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "units.hpp"

namespace promwarden::host {

namespace {

constexpr const char* service_name = "org.freedesktop.systemd1";
constexpr std::uint64_t patience = 2'000'000;  // microseconds

using Bus = Handle<sd_bus, sd_bus_close_unref>;
using Message = Handle<sd_bus_message, sd_bus_message_unref>;

std::unexpected<Error> bus_error(std::string action, const std::string& subject, int code, const sd_bus_error* error = nullptr) {
    auto result = fail_errno(std::move(action), subject, -code);
    if (error != nullptr && error->message != nullptr) result.error().detail = error->message;
    return result;
}

/// Root speaks with systemd itself, which needs no message bus to run; everybody else through the system bus.
Result<Bus> open_bus() {
    sd_bus* bus = nullptr;
    if (::geteuid() == 0) {
        auto code = sd_bus_new(&bus);
        Bus direct(bus);
        if (code >= 0) code = sd_bus_set_address(bus, "unix:path=/run/systemd/private");
        if (code >= 0) code = sd_bus_start(bus);
        if (code >= 0) {
            sd_bus_set_method_call_timeout(bus, patience);
            return direct;
        }
    }
    if (const auto code = sd_bus_open_system(&bus); code < 0) return bus_error("open", "system bus", code);
    sd_bus_set_method_call_timeout(bus, patience);
    return Bus(bus);
}

// ---- values of properties -------------------------------------------------------------------------------------------

std::optional<std::string> text_of(sd_bus_message* m) {
    const char* text = nullptr;
    if (sd_bus_message_read_basic(m, 's', &text) < 0 && sd_bus_message_read_basic(m, 'o', &text) < 0) return std::nullopt;
    return text;
}

std::vector<std::string> texts_of(sd_bus_message* m) {
    std::vector<std::string> texts;
    if (sd_bus_message_enter_container(m, 'a', "s") < 0) return texts;
    const char* text = nullptr;
    while (sd_bus_message_read_basic(m, 's', &text) > 0) texts.emplace_back(text);
    sd_bus_message_exit_container(m);
    return texts;
}

std::vector<std::pair<std::string, bool>> files_of(sd_bus_message* m) {
    std::vector<std::pair<std::string, bool>> files;
    if (sd_bus_message_enter_container(m, 'a', "(sb)") < 0) return files;
    const char* path = nullptr;
    int optional = 0;
    while (sd_bus_message_read(m, "(sb)", &path, &optional) > 0) files.emplace_back(path, optional != 0);
    sd_bus_message_exit_container(m);
    return files;
}

/// The words of the last command: a service that is not oneshot has one. Program first.
std::vector<std::string> command_of(sd_bus_message* m) {
    std::vector<std::string> words;
    if (sd_bus_message_enter_container(m, 'a', "(sasbttttuii)") < 0) return words;
    while (sd_bus_message_enter_container(m, 'r', "sasbttttuii") > 0) {
        const auto path = text_of(m);
        words = texts_of(m);
        if (path && !words.empty()) words.front() = *path;
        if (sd_bus_message_skip(m, "bttttuii") < 0) break;
        sd_bus_message_exit_container(m);
    }
    sd_bus_message_exit_container(m);
    return words;
}

std::string yes_or_no(sd_bus_message* m) {
    int value = 0;
    return sd_bus_message_read_basic(m, 'b', &value) > 0 && value != 0 ? "yes" : "no";
}

/// A list that may be meant the other way round: "~@privileged".
std::string list_of(sd_bus_message* m) {
    int allows = 0;
    if (sd_bus_message_enter_container(m, 'r', "bas") < 0) return {};
    sd_bus_message_read_basic(m, 'b', &allows);
    const auto names = texts_of(m);
    sd_bus_message_exit_container(m);
    return fmt::format("{}{}", allows != 0 ? "" : "~", fmt::join(names, " "));
}

std::string sources_of(sd_bus_message* m) {
    std::vector<std::string> sources;
    if (sd_bus_message_enter_container(m, 'a', "(ssbt)") < 0) return {};
    const char *source = nullptr, *target = nullptr;
    int optional = 0;
    std::uint64_t flags = 0;
    while (sd_bus_message_read(m, "(ssbt)", &source, &target, &optional, &flags) > 0) sources.emplace_back(source);
    sd_bus_message_exit_container(m);
    return fmt::format("{}", fmt::join(sources, " "));
}

// linux/capability.h, by number.
constexpr std::string_view capabilities[] = {
    "chown", "dac_override", "dac_read_search", "fowner", "fsetid", "kill", "setgid", "setuid", "setpcap", "linux_immutable", "net_bind_service", "net_broadcast", "net_admin", "net_raw",
    "ipc_lock", "ipc_owner", "sys_module", "sys_rawio", "sys_chroot", "sys_ptrace", "sys_pacct", "sys_admin", "sys_boot", "sys_nice", "sys_resource", "sys_time", "sys_tty_config", "mknod",
    "lease", "audit_write", "audit_control", "setfcap", "mac_override", "mac_admin", "syslog", "wake_alarm", "block_suspend", "audit_read", "perfmon", "bpf", "checkpoint_restore",
};

/// As unit files write a set of capabilities; nullopt for all of them, which is the default.
std::optional<std::string> capabilities_of(sd_bus_message* m) {
    std::uint64_t bits = 0;
    if (sd_bus_message_read_basic(m, 't', &bits) < 0) return std::nullopt;
    std::vector<std::string> names;
    for (std::size_t i = 0; i < std::size(capabilities); ++i)
        if ((bits >> i & 1) != 0) names.push_back(fmt::format("CAP_{}", capabilities[i]));
    if (names.size() == std::size(capabilities)) return std::nullopt;
    auto text = fmt::format("{}", fmt::join(names, " "));
    for (auto& c : text)
        if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
    return text;
}

/// The namespaces that may be made: none is "yes", all is "no".
std::string namespaces_of(sd_bus_message* m) {
    constexpr std::uint64_t all = 0x7e020000;  // CLONE_NEW*
    std::uint64_t allowed = 0;
    if (sd_bus_message_read_basic(m, 't', &allowed) < 0) return {};
    if ((allowed & all) == 0) return "yes";
    return (allowed & all) == all ? "no" : "some";
}

constexpr std::string_view plain_settings[] = {
    "ProtectSystem", "ProtectHome", "PrivateTmp", "PrivateDevices", "PrivateUsers", "PrivateNetwork", "PrivateMounts", "ProtectKernelTunables", "ProtectKernelModules", "ProtectKernelLogs",
    "ProtectControlGroups", "ProtectClock", "ProtectHostname", "ProtectProc", "NoNewPrivileges", "LockPersonality", "MemoryDenyWriteExecute", "RestrictRealtime", "RestrictSUIDSGID", "RemoveIPC",
    "DynamicUser", "DevicePolicy", "RootDirectory", "RootImage",
};

/// One property of org.freedesktop.systemd1.Unit or .Service, the reader standing inside its variant. False: not one that we keep.
bool keep(Unit& unit, std::string_view name, sd_bus_message* m, char type) {
    const auto setting = [&](std::string value) {
        unit.settings[std::string(name)] = std::move(value);
        return true;
    };
    if (name == "Id") unit.name = text_of(m).value_or(unit.name);
    else if (name == "ActiveState") unit.active = text_of(m).value_or("");
    else if (name == "FragmentPath") unit.fragment = text_of(m).value_or("");
    else if (name == "DropInPaths") unit.drop_ins = texts_of(m);
    else if (name == "NeedDaemonReload") unit.needs_reload = yes_or_no(m) == "yes";
    else if (name == "MainPID") {
        std::uint32_t pid = 0;
        sd_bus_message_read_basic(m, 'u', &pid);
        unit.main_pid = static_cast<pid_t>(pid);
    } else if (name == "User") unit.user = text_of(m).value_or("");
    else if (name == "Group") unit.group = text_of(m).value_or("");
    else if (name == "WorkingDirectory") unit.directory = text_of(m).value_or("");
    else if (name == "SupplementaryGroups") unit.supplementary_groups = texts_of(m);
    else if (name == "Environment") unit.environment = texts_of(m);
    else if (name == "EnvironmentFiles") unit.environment_files = files_of(m);
    else if (name == "ExecStart") unit.exec_start = command_of(m);
    else if (name == "CapabilityBoundingSet" || name == "AmbientCapabilities") {
        if (auto set = capabilities_of(m)) setting(*std::move(set));
    } else if (name == "RestrictNamespaces") setting(namespaces_of(m));
    else if (name == "RestrictAddressFamilies" || name == "SystemCallFilter") {
        if (auto list = list_of(m); list != "~" && !list.empty()) setting(std::move(list));
    } else if (name == "SystemCallArchitectures") {
        if (const auto names = texts_of(m); !names.empty()) setting(fmt::format("{}", fmt::join(names, " ")));
    } else if (name == "BindPaths" || name == "BindReadOnlyPaths") {
        if (auto sources = sources_of(m); !sources.empty()) setting(std::move(sources));
    } else if (name == "UMask") {
        std::uint32_t mask = 0;
        sd_bus_message_read_basic(m, 'u', &mask);
        setting(fmt::format("{:04o}", mask));
    } else if (std::ranges::find(plain_settings, name) == std::end(plain_settings)) return false;
    else if (type == 'b') setting(yes_or_no(m));
    else if (type == 's') setting(text_of(m).value_or(""));
    else return false;
    return true;
}

Result<> read_properties(sd_bus* bus, const std::string& path, const char* interface, const std::function<bool(std::string_view, sd_bus_message*, char)>& take) {
    sd_bus_error error = SD_BUS_ERROR_NULL;
    sd_bus_message* reply = nullptr;
    const auto called = sd_bus_call_method(bus, service_name, path.c_str(), "org.freedesktop.DBus.Properties", "GetAll", &error, &reply, "s", interface);
    const Message held(reply);
    if (called < 0) {
        auto result = bus_error("read properties of", path, called, &error);
        sd_bus_error_free(&error);
        return result;
    }
    auto code = sd_bus_message_enter_container(reply, 'a', "{sv}");
    while (code >= 0 && (code = sd_bus_message_enter_container(reply, 'e', "sv")) > 0) {
        const char *name = nullptr, *contents = nullptr;
        if ((code = sd_bus_message_read_basic(reply, 's', &name)) < 0 || (code = sd_bus_message_peek_type(reply, nullptr, &contents)) < 0) break;
        if ((code = sd_bus_message_enter_container(reply, 'v', contents)) < 0) break;
        if (!take(name, reply, contents[0]) && (code = sd_bus_message_skip(reply, contents)) < 0) break;
        if ((code = sd_bus_message_exit_container(reply)) < 0) break;
        code = sd_bus_message_exit_container(reply);
    }
    if (code < 0) return bus_error("read properties of", path, code);
    return {};
}

}  // namespace

bool has_manager() { return sd_booted() > 0; }

Result<Unit> ask_manager(const std::string& name) {
    const auto bus = TRY(open_bus());
    sd_bus_error error = SD_BUS_ERROR_NULL;
    sd_bus_message* reply = nullptr;
    const auto called = sd_bus_call_method(bus.get(), service_name, "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager", "LoadUnit", &error, &reply, "s", name.c_str());
    const Message held(reply);
    if (called < 0) {
        auto result = bus_error("load unit", name, called, &error);
        sd_bus_error_free(&error);
        return result;
    }
    const char* path = nullptr;
    if (const auto code = sd_bus_message_read_basic(reply, 'o', &path); code < 0) return bus_error("load unit", name, code);
    Unit unit;
    unit.name = name;
    std::string state;
    TRY(read_properties(bus.get(), path, "org.freedesktop.systemd1.Unit", [&](std::string_view property, sd_bus_message* m, char type) {
        if (property != "LoadState") return keep(unit, property, m, type);
        state = text_of(m).value_or("");
        return true;
    }));
    if (state == "not-found") return fail(Code::missing, "load unit", name, "there is no such unit");
    if (state == "masked") return fail(Code::missing, "load unit", name, "it is masked");
    TRY(read_properties(bus.get(), path, "org.freedesktop.systemd1.Service", [&](std::string_view property, sd_bus_message* m, char type) { return keep(unit, property, m, type); }));
    return unit;
}

}  // namespace promwarden::host
