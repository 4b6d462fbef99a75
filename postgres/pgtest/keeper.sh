# Waits for the end of its standard input, which is that of the process that started
# it; then stops the servers below the directory and removes that.
trap '' INT HUP TERM
cat >/dev/null
for file in "$1"/*/pid; do
	[ -e "$file" ] || continue
	pid=$(cat "$file")
	kill -QUIT "$pid" 2>/dev/null || continue
	# Its lock file goes with it; its number stays in use until somebody asks how it ended.
	while [ -e "${file%pid}data/postmaster.pid" ] && kill -0 "$pid" 2>/dev/null; do sleep 0.05; done
done
rm -rf "$1"
