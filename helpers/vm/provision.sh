#!/usr/bin/env bash
# In the Vagrant VM, at each `vagrant up`: ./course install, and JupyterLab as a service of this user.
# What is there already is left alone; what runs goes on running.
set -euo pipefail

course=$HOME/course
state=/etc/bpf-maps-measured
spec=$state/jupyter/kernels/python3

say() { printf 'vagrant: %s\n' "$*"; }
die() {
	printf 'vagrant: %s\n' "$@" >&2
	exit 1
}

# put FILE MODE: stdin into a file of root's, if that changes it; then $changed is 1.
put() {
	local text
	text=$(cat)
	if ! sudo test -e "$1" || [[ $(sudo cat "$1") != "$text" ]]; then
		sudo mkdir -p "${1%/*}"
		printf '%s\n' "$text" | sudo install -m "$2" /dev/stdin "$1"
		changed=1
	fi
}

# A bundle that COURSE_CA_BUNDLE named, for all that checks certificates; pip has its own list.
trust() {
	local given=$HOME/.course-ca.crt ours=/usr/local/share/ca-certificates/course.crt
	if [[ ! -e $given ]] || cmp -s "$given" "$ours"; then
		return
	fi
	sudo install -D -m 0644 "$given" "$ours"
	sudo update-ca-certificates >/dev/null 2>&1
	printf '[global]\ncert = /etc/ssl/certs/ca-certificates.crt\n' | put /etc/pip.conf 0644
}

# The .venv is the VM's own: shared folders of macOS and Windows take no links, and the host may have
# a .venv for itself.
own_venv() {
	mkdir -p "$HOME/.course-venv" "$course/.venv"
	mountpoint -q "$course/.venv" || sudo mount --bind "$HOME/.course-venv" "$course/.venv"
}

# Apart from this connection: when vagrant is interrupted, the installation goes on, and the next
# vagrant up waits for it instead of beginning anew.
install_course() {
	local log=$HOME/.course-install.log
	rm -f "$log" # the one before may be writing still
	touch "$log"
	setsid ./course install >>"$log" 2>&1 </dev/null &
	tail -n +1 -f --pid=$! "$log"
	wait $!
}

services() {
	changed=0
	sudo test -e "$state/token" ||
		printf 'JUPYTER_TOKEN=%s\n' "$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')" |
		put "$state/token" 0600

	# The server is this user's. Its kernels are root's: BCC reads tracefs, and the checks of labs mount,
	# change users and start bubblewrap, which refuses a user with some of root's capabilities.
	put "$spec/kernel.json" 0644 <<-END
		{"argv": ["sudo", "-H", "$course/.venv/bin/python", "-m", "ipykernel_launcher", "-f",
		  "{connection_file}"],
		 "display_name": "Python 3 (ipykernel)", "language": "python", "interrupt_mode": "message",
		 "metadata": {"debugger": true, "supported_encryption": ["curve"]}}
	END
	# CAP_KILL ends a kernel of root's that does not answer. There is no [Install]: the folder of the
	# course, and its .venv, are there only after vagrant up.
	put /etc/systemd/system/course-lab.service 0644 <<-END
		[Unit]
		Description=JupyterLab with the course "BPF Maps, Measured"

		[Service]
		User=$(id -un)
		WorkingDirectory=$course
		EnvironmentFile=$state/token
		Environment=JUPYTER_PATH=$state/jupyter
		AmbientCapabilities=CAP_KILL
		ExecStart=$course/.venv/bin/python -P -m helpers.cli lab --no-browser --port 8889
		Restart=on-failure
	END
	# JupyterLab listens on 127.0.0.1 alone, and what a provider forwards comes to the VM's own address.
	put /etc/systemd/system/course-port.socket 0644 <<-END
		[Socket]
		ListenStream=8888
	END
	put /etc/systemd/system/course-port.service 0644 <<-END
		[Unit]
		Requires=course-port.socket

		[Service]
		DynamicUser=yes
		ExecStart=/lib/systemd/systemd-socket-proxyd 127.0.0.1:8889
	END
	if ((changed)); then
		sudo systemctl daemon-reload
		sudo systemctl restart course-lab.service
	fi
	sudo systemctl start course-lab.service course-port.socket
}

answers() { (exec 3<>/dev/tcp/127.0.0.1/8889) 2>/dev/null; }

await() {
	local started=$SECONDS
	until answers; do
		if ((SECONDS - started > 180)); then
			sudo journalctl --no-pager -n 20 -u course-lab.service >&2
			die "JupyterLab does not come up; what it said is above. Then: vagrant up --provision"
		fi
		sleep 1
	done
}

cd "$course"
trust
own_venv
install_course
say "what this VM can do, by ./course doctor"
said=$(./course doctor) || die "$said" "The VM lacks what the lines above say: vagrant up --provision tries again"
printf '%s\n' "$said"
[[ $said =~ yes\ +kprobes ]] || die "This VM's kernel has no kprobes: take the box that Vagrantfile names"
services
await
say "JupyterLab answers"
