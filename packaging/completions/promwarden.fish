# fish completion for promwarden
function __promwarden_controls
    promwarden explain 2>/dev/null | string match -rg '^\W*([a-z]+\.[a-z][a-z-]+)'
end

function __promwarden_certificates
    promwarden cert list --format json 2>/dev/null | string match -arg '\{"name":"([^"]+)'
end

function __promwarden_users
    promwarden access user list --format json 2>/dev/null | string match -arg '"user":"([^"]+)'
end

set -l commands check plan apply confirm undo status watch history why why-request render lint cert access policy explain
set -l none "not __fish_seen_subcommand_from $commands"
set -l used __fish_seen_subcommand_from
complete -c promwarden -f
complete -c promwarden -n $none -a check -d 'Observe once, evaluate, report'
complete -c promwarden -n $none -a plan -d 'The changes that apply would make'
complete -c promwarden -n $none -a apply -d 'Make the host what the policy says'
complete -c promwarden -n $none -a confirm -d 'Keep what a trial apply made'
complete -c promwarden -n $none -a undo -d 'Put back what the last apply changed'
complete -c promwarden -n $none -a status -d 'The current view of the agent'
complete -c promwarden -n $none -a watch -d 'Stream transitions until interrupted'
complete -c promwarden -n $none -a history -d 'Past transitions'
complete -c promwarden -n $none -a why -d 'What happens to a packet from an address'
complete -c promwarden -n $none -a why-request -d 'What the proxy does with a request'
complete -c promwarden -n $none -a render -d 'Print a file that the policy implies'
complete -c promwarden -n $none -a lint -d 'The same controls over configuration files'
complete -c promwarden -n $none -a cert -d 'The certificates of the policy'
complete -c promwarden -n $none -a access -d 'The users of the proxy'
complete -c promwarden -n $none -a policy -d 'Check or show the policy'
complete -c promwarden -n $none -a explain -d 'What a control is about'
complete -c promwarden -n $none -l version -d 'Print the version'
complete -c promwarden -s h -l help -d 'Print help'
complete -c promwarden -l policy -rF -d 'Policy file'
complete -c promwarden -l state -ra '(__fish_complete_directories)' -d 'State directory'
complete -c promwarden -l socket -rF -d 'Socket of the agent'
complete -c promwarden -n "$used check apply status lint; and not $used policy" -l format -xa 'text json sarif junit openmetrics' -d 'Form of the report'
complete -c promwarden -n "$used plan undo watch history why why-request cert explain" -l format -xa 'text json' -d 'Form of the result'
complete -c promwarden -n "$used policy; and $used check" -l format -xa 'text json' -d 'Form of the result'
complete -c promwarden -n "not $none; and not $used confirm watch" -l output -rF -d 'Write the result to a file'
complete -c promwarden -n "$used check plan apply status lint; and not $used policy" -l only -xa '(__promwarden_controls)' -d 'This control only'
complete -c promwarden -n "$used check plan apply status lint; and not $used policy" -l fail-on -xa 'critical high medium low' -d 'Lowest severity that decides the exit status'
complete -c promwarden -n "$used check; and not $used policy" -l root -ra '(__fish_complete_directories)' -d 'A mounted image instead of this host'
complete -c promwarden -n "$used check; and not $used policy" -l no-live -d 'Ask no endpoint'
complete -c promwarden -n "$used apply plan" -l edit-config -d 'Edit prometheus.yml, too'
complete -c promwarden -n "$used apply" -l confirm-within -xa '60s 5m' -d 'Undo unless confirmed in time'
complete -c promwarden -n "$used apply" -l force -d 'Apply against a refusal'
complete -c promwarden -n "$used why-request" -l role -x -d 'Who asks'
complete -c promwarden -n "$used render; and not $used nginx rules unit scrape metrics" -a 'nginx rules unit scrape metrics'
complete -c promwarden -n "$used lint" -F
complete -c promwarden -n "$used lint" -l as -xa 'prometheus scrape-configs web rules http-client targets nginx oauth2-proxy compose unit' -d 'What the files are'
complete -c promwarden -n "$used undo" -l all -d 'Everything that was ever applied'
complete -c promwarden -n "$used history" -l since -xa '1h 24h 7d' -d 'How far back'
complete -c promwarden -n "$used history" -l control -xa '(__promwarden_controls)' -d 'This control only'
complete -c promwarden -n "$used cert; and not $used list issue rotate rotate-ca" -a 'list issue rotate rotate-ca'
complete -c promwarden -n "$used issue rotate" -a '(__promwarden_certificates)'
complete -c promwarden -n "$used issue rotate" -l force -d 'Even where the new one expires earlier'
complete -c promwarden -n "$used rotate" -l rekey -d 'With a new key'
complete -c promwarden -n "$used rotate-ca" -l until-overlap -d 'Stop while both authorities are believed'
complete -c promwarden -n "$used access; and not $used user" -a user
complete -c promwarden -n "$used user; and not $used add list remove" -a 'add list remove'
complete -c promwarden -n "$used user; and $used add" -l role -x -d 'The role that the policy gives the user'
complete -c promwarden -n "$used user; and $used list" -l format -xa 'text json' -d 'Form of the result'
complete -c promwarden -n "$used user; and $used remove" -a '(__promwarden_users)'
complete -c promwarden -n "$used explain" -a '(__promwarden_controls)'
complete -c promwarden -n "$used policy; and not $used check show" -a 'check show'
complete -c promwarden -n "$used policy; and $used check" -F
