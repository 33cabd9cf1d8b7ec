# bash completion for promwarden
_promwarden_controls() { promwarden explain 2>/dev/null | grep -oE '\b[a-z]+\.[a-z][a-z-]+' | sort -u; }
_promwarden_certificates() { promwarden cert list --format json 2>/dev/null | grep -oE '\{"name":"[^"]+' | cut -d'"' -f4; }
_promwarden_users() { promwarden access user list --format json 2>/dev/null | grep -oE '"user":"[^"]+' | cut -d'"' -f4; }

_promwarden() {
    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]} word before='' command='' action='' deed='' words
    COMPREPLY=()
    local commands='check plan apply confirm undo status watch history why why-request render lint cert access policy explain'
    local options='--policy --state --socket --help'
    local report='--format --output --only --fail-on'
    for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
        case $before in  # its value, not a command
            --policy|--state|--socket|--format|--output|--only|--fail-on|--root|--as|--role|--confirm-within|--since|--control) before=''; continue ;;
        esac
        before=$word
        case $word in -*) continue ;; esac
        if [ -z "$command" ]; then command=$word; elif [ -z "$action" ]; then action=$word; elif [ -z "$deed" ]; then deed=$word; fi
    done

    case $previous in
        --policy|--output|--socket|--state|--root) compopt -o default; return ;;
        --format)
            words='text json'
            case $command in check|apply|status|lint) words='text json sarif junit openmetrics' ;; esac ;;
        --fail-on) words='critical high medium low' ;;
        --only|--control) words=$(_promwarden_controls) ;;
        --as) words='prometheus scrape-configs web rules http-client targets nginx oauth2-proxy compose unit' ;;
        --role) return ;;
        --confirm-within) words='60s 5m' ;;
        --since) words='1h 24h 7d' ;;
        *)
            case "$command $action" in
                ' ') words="$commands $options --version" ;;
                'check '*) words="$options $report --root --no-live" ;;
                'plan '*) words="$options $report --edit-config" ;;
                'status '*) words="$options $report" ;;
                'apply '*) words="$options $report --confirm-within --force --edit-config" ;;
                'confirm '*) words=$options ;;
                'undo '*) words="$options --format --output --all" ;;
                'watch '*) words="$options --format" ;;
                'history '*) words="$options --format --output --since --control" ;;
                'why-request '*) words="$options --format --output --role" ;;
                'lint '*)
                    case $current in -*) words="$options $report --as" ;; *) compopt -o default; return ;; esac ;;
                'render ') words="nginx rules unit scrape metrics $options" ;;
                'render '*|'policy show') words="$options --output" ;;
                'cert ') words="list issue rotate rotate-ca $options" ;;
                'cert issue') words="$(_promwarden_certificates) $options --format --output --force" ;;
                'cert rotate') words="$(_promwarden_certificates) $options --format --output --force --rekey" ;;
                'cert rotate-ca') words="$options --format --output --until-overlap" ;;
                'access ') words="user $options" ;;
                'access user')
                    case $deed in
                        '') words="add list remove $options" ;;
                        add) words="$options --output --role" ;;
                        list) words="$options --format --output" ;;
                        *) words="$(_promwarden_users) $options --output" ;;
                    esac ;;
                'policy ') words="check show $options" ;;
                'policy check')
                    case $current in -*) words="$options --format --output" ;; *) compopt -o default; return ;; esac ;;
                'explain ') words="$(_promwarden_controls) $options --format --output" ;;
                *) words="$options --format --output" ;;
            esac ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
}
complete -F _promwarden promwarden
