# bash completion for promwarden
_promwarden_controls() { promwarden explain 2>/dev/null | grep -oE '^ *[a-z]+\.[a-z-]+'; }

_promwarden() {
    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]} word command='' words
    COMPREPLY=()
    local commands='check plan apply confirm undo status watch history why why-request render lint cert policy explain'
    local options='--policy --state --socket --help'
    local report='--format --output --only --fail-on'
    for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
        case " $commands " in *" $word "*) command=$word; break ;; esac
    done

    case $previous in
        --policy|--output|--socket|--state|--root) compopt -o default; return ;;
        --format) words='text json sarif junit openmetrics' ;;
        --fail-on) words='critical high medium low' ;;
        --only|--control) words=$(_promwarden_controls) ;;
        --confirm-within) words='60s 5m' ;;
        --since) words='1h 24h 7d' ;;
        *)
            case $command in
                '') words="$commands $options --version" ;;
                lint)
                    case $current in -*) words="$options $report --as" ;; *) compopt -o default; return ;; esac ;;
                check) words="$options $report --root --no-live" ;;
                plan|status) words="$options $report" ;;
                why-request) words="$options --format --output --role" ;;
                render) words="nginx scrape $options --output" ;;
                apply) words="$options $report --confirm-within --force" ;;
                undo) words="$options --format --output --all" ;;
                history) words="$options --format --output --since --control" ;;
                cert)
                    case $previous in
                        issue|rotate) words=$(promwarden cert list --format json 2>/dev/null | grep -oE '\{"name":"[^"]+' | cut -d'"' -f4) ;;
                        *) words="list issue rotate rotate-ca $options --format --output --force --rekey --until-overlap" ;;
                    esac ;;
                policy)
                    [ "$previous" != check ] || { compopt -o default; return; }
                    words="check show $options --format --output" ;;
                render) words="scrape $options --output" ;;
                explain) words="$(_promwarden_controls) $options --format --output" ;;
                *) words="$options --format --output" ;;
            esac ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
}
complete -F _promwarden promwarden
