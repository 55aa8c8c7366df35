#!/bin/bash
# Plays the life of the installed service on a booted machine, and says on the serial line how each step went.
serial=/dev/ttyS0
say() { echo "PLAY $*" >"$serial"; }

# step NAME CONDITION: waits until the condition holds.
step() {
    for _ in $(seq 1 160); do
        if eval "$2" >/dev/null 2>&1; then
            say "ok $1"
            return
        fi
        sleep 0.5
    done
    say "failed $1"
    {
        systemctl status rstscope --no-pager --lines=0
        journalctl --unit rstscope --no-pager --output=cat | tail -20
        rstscope query --limit 5
    } >"$serial" 2>&1
}

main_pid() { systemctl show --property MainPID --value rstscope; }
# Whether another process than $1 is the service, and ready.
follows() { [ "$(main_pid)" != "$1" ] && [ "$(main_pid)" != 0 ] && systemctl is-active rstscope; }
metric() { curl --silent http://127.0.0.1:9911/metrics | grep --fixed-strings "$1"; }
ask() { curl --silent --output /dev/null "http://127.0.0.1:8080$1"; }
stored() { rstscope query --include-harmless --limit 0 | grep "$1"; }

# An upstream behind a router that prohibits one of its ports.
network() {
    ip link set lo up
    ip netns add router
    ip netns add upstream
    ip link add near type veth peer name far netns router
    ip address add 10.9.0.1/24 dev near
    ip link set near up
    ip -n router address add 10.9.0.2/24 dev far
    ip -n router link set far up
    ip -n router link add near type veth peer name far2 netns upstream
    ip -n router address add 10.9.1.2/24 dev near
    ip -n router link set near up
    ip -n upstream address add 10.9.1.3/24 dev far2
    ip -n upstream link set far2 up
    ip -n upstream route add default via 10.9.1.2
    ip route add 10.9.1.0/24 via 10.9.0.2
    ip netns exec router sysctl --quiet --write net.ipv4.ip_forward=1
    ip netns exec router nft "add table t; add chain t f { type filter hook forward priority 0; }; \
        add rule t f tcp dport 9001 reject with icmp type admin-prohibited"
}

nginx_configuration() {
    cat >/etc/nginx/conf.d/play.conf <<'NGINX'
server {
    listen 8080;
    location / { return 200 "ok"; }
    location /refused { proxy_pass http://10.9.1.3:9000; }
    location /prohibited { proxy_pass http://10.9.1.3:9001; }
}
NGINX
}

network
nginx_configuration
systemctl restart nginx
step "nginx runs" "ask /"

dpkg --install /old.deb >"$serial" 2>&1
step "the installed service is active and ready" "systemctl is-active rstscope"
step "it watches nginx and its upstreams" "systemctl show --property StatusText rstscope | grep 'watching 1 Nginx master'"
step "every hook runs" "! metric 'rstscope_hook_running' | grep ' 0.0' && metric 'rstscope_hook_running'"
ask /refused
step "a refusal is joined with its line of error.log" "stored 'proven .*upstream_refused .*GET /refused'"
ask /prohibited
step "the router that refuses is named, through the sandbox" "rstscope query --text 'said by 10.9.0.2' | grep middlebox_reject"
step "the verdicts are in the journal" "journalctl --unit rstscope --output=cat | grep 'incident: middlebox'"
step "nothing is lost" "metric 'rstscope_lost_total{' && ! metric 'rstscope_lost_total{' | grep --invert-match ' 0$'"
step "the service is nobody's root" "[ \$(ps -o user= -p \$(main_pid)) = rstscope ]"
step "its memory is bounded" "[ \$(systemctl show --property MemoryCurrent --value rstscope) -lt 134217728 ]"

before=$(main_pid)
kill -KILL "$before"
step "it comes back after kill -9" "follows $before"
step "and still has its verdicts" "stored upstream_refused"
before=$(main_pid)
kill -STOP "$before"
step "a frozen one is replaced by the watchdog" "follows $before"
printf '[store]\nkeep = "7d"\n' >/etc/rstscope/rstscope.toml
step "it reloads" "systemctl reload rstscope && journalctl --unit rstscope --output=cat | grep 'configuration was read again'"
echo 'kep = 1' >>/etc/rstscope/rstscope.toml
step "a wrong configuration is not reloaded" "! systemctl reload rstscope && systemctl is-active rstscope"
sed -i '$d' /etc/rstscope/rstscope.toml

before=$(main_pid)
dpkg --install /new.deb >"$serial" 2>&1
step "an upgrade replaces the running service" "follows $before"
ask /refused
step "and it goes on with the store" "[ \$(rstscope query --cause upstream_refused --count) -ge 2 ]"
systemctl stop rstscope
step "a report of the store has its packets" "rstscope report /var/lib/rstscope/verdicts.db | grep 'captured'"
dpkg --purge rstscope >"$serial" 2>&1
step "a purge leaves nothing" "! systemctl cat rstscope && [ ! -e /var/lib/rstscope ] && [ ! -e /etc/rstscope ]"
say finished
systemctl poweroff --force
