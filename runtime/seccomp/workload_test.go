package seccomp

import (
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// launches is how often tests that compare or replay start each program; the goals of the project are 200 and 100.
var launches = flag.Int("launches", 2, "how often comparing and replaying tests start each program")

// workload is a program that ends by itself.
type workload struct {
	name    string
	command []string
}

// tool skips when a program that a test needs is not installed.
func tool(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("needs %s: %v", name, err)
	}
	return path
}

func have(name string) bool {
	_, err := exec.LookPath(name)
	return err == nil
}

// workloads makes those whose programs are installed.
func workloads(t testing.TB) []workload {
	t.Helper()
	dir := t.TempDir()
	write := func(name, text string) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
		return p
	}
	for i := range 20 {
		write(fmt.Sprintf("data%d", i), strings.Repeat("some text\n", 100))
	}
	var out []workload
	add := func(needs, name string, command ...string) {
		for _, n := range strings.Fields(needs) {
			if !have(n) {
				return
			}
		}
		out = append(out, workload{name, command})
	}
	add("sh sort wc", "shell pipeline", "sh", "-c", "cd "+dir+"; for i in 1 2 3; do cat data$i | sort | uniq -c | wc -l; done; (sleep 0.01 & wait); ls -l | tail -1")
	add("python3", "python", "python3", "-c", "import threading,json,subprocess\nts=[threading.Thread(target=lambda: json.dumps(list(range(1000)))) for _ in range(4)]\n[t.start() for t in ts]; [t.join() for t in ts]\nprint(subprocess.run(['true']).returncode)")
	add("tar gzip", "tar", "tar", "czf", filepath.Join(dir, "out.tgz"), "-C", dir, "data1", "data2", "data3")
	add("sqlite3", "sqlite", "sh", "-c", "rm -f "+dir+"/db; sqlite3 "+dir+"/db 'create table t(a); insert into t values(1),(2); select sum(a) from t; vacuum;'")
	if have("git") {
		repo := filepath.Join(dir, "repo")
		cmd := exec.Command("sh", "-c", "git init -q "+repo+" && cd "+repo+" && cp ../data1 . && git add . && git -c user.name=a -c user.email=b commit -qm one && echo x >> data1")
		if b, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git: %v: %s", err, b)
		}
		add("git", "git", "sh", "-c", "cd "+repo+" && git status --short && git log --oneline | cat && git diff | cat")
	}
	if have("curl") {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "hello") }), ReadHeaderTimeout: time.Minute}
		go func() { _ = srv.Serve(l) }()
		t.Cleanup(func() { _ = srv.Close() })
		add("curl", "curl", "curl", "-s", "http://"+l.Addr().String()+"/")
	}
	if have("gcc") {
		add("gcc", "threads", compileC(t, dir, "threads", threadsSource, "-pthread"))
	}
	if have("go") {
		add("go", "go server", buildGo(t, dir, "goserver", goServerSource))
	}
	if have("nginx") && have("curl") {
		for _, d := range []string{"logs", "tmp"} {
			if err := os.Mkdir(filepath.Join(dir, d), 0o777); err != nil {
				t.Fatal(err)
			}
		}
		port := freePort(t)
		conf := write("nginx.conf", fmt.Sprintf(nginxConf, dir, dir, dir, port))
		add("nginx", "nginx", "sh", "-c", fmt.Sprintf("nginx -c %s -g 'daemon off;' 2>/dev/null & P=$!; i=0; until curl -s -o /dev/null http://127.0.0.1:%d/; do i=$((i+1)); [ $i -gt 100 ] && exit 1; sleep 0.05; done; "+
			"for i in 1 2 3; do curl -s -o /dev/null http://127.0.0.1:%d/nginx.conf; done; kill -HUP $P; sleep 0.1; curl -s -o /dev/null http://127.0.0.1:%d/; kill -QUIT $P; wait $P", conf, port, port, port))
	}
	if have("redis-server") {
		port := freePort(t)
		add("redis-server redis-cli", "redis", "sh", "-c", fmt.Sprintf("redis-server --port %d --dir %s --save '' --appendonly no --loglevel warning & P=$!; i=0; until redis-cli -p %d ping >/dev/null 2>&1; do i=$((i+1)); [ $i -gt 100 ] && exit 1; sleep 0.05; done; "+
			"redis-cli -p %d set a 1; redis-cli -p %d incr a; redis-cli -p %d bgsave; sleep 0.5; redis-cli -p %d shutdown nosave; wait $P", port, dir, port, port, port, port, port))
	}
	return out
}

func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func compileC(t testing.TB, dir, name, source string, flags ...string) string {
	t.Helper()
	src, out := filepath.Join(dir, name+".c"), filepath.Join(dir, name)
	if err := os.WriteFile(src, []byte(source), 0o644); err != nil {
		t.Fatal(err)
	}
	if b, err := exec.Command("gcc", append([]string{"-O1", "-o", out, src}, flags...)...).CombinedOutput(); err != nil {
		t.Fatalf("gcc: %v\n%s", err, b)
	}
	return out
}

func buildGo(t testing.TB, dir, name, source string) string {
	t.Helper()
	src, out := filepath.Join(dir, name+".go"), filepath.Join(dir, name)
	if err := os.WriteFile(src, []byte(source), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "build", "-o", out, src)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-mod=mod")
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, b)
	}
	return out
}

const threadsSource = `
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
static pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
static long n;
static void *work(void *arg) {
	char name[16];
	snprintf(name, sizeof name, "worker%ld", (long)arg);
	pthread_setname_np(pthread_self(), name);
	for (int i = 0; i < 2000; i++) {
		pthread_mutex_lock(&m); n++; pthread_mutex_unlock(&m);
		syscall(SYS_getppid);
	}
	return 0;
}
int main(void) {
	pthread_t t[8];
	for (long i = 0; i < 8; i++) pthread_create(&t[i], 0, work, (void *)i);
	for (int i = 0; i < 8; i++) pthread_join(t[i], 0);
	printf("%ld\n", n);
	return 0;
}
`

const goServerSource = `package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
)

func main() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil { panic(err) }
	go http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, "hello", r.URL.Path) }))
	var wg sync.WaitGroup
	var failed sync.Map
	for i := range 8 {
		wg.Go(func() {
			c := &http.Client{Transport: &http.Transport{}}
			for j := range 50 {
				resp, err := c.Get(fmt.Sprintf("http://%s/%d/%d", l.Addr(), i, j))
				if err != nil { failed.Store(i, err); return }
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
		})
	}
	wg.Wait()
	failed.Range(func(_, v any) bool { fmt.Println(v); os.Exit(1); return false })
}
`

const nginxConf = `
worker_processes 2;
error_log stderr;
pid %s/nginx.pid;
events { worker_connections 64; }
http {
	access_log off;
	client_body_temp_path %s/tmp; proxy_temp_path %[1]s/tmp/p; fastcgi_temp_path %[1]s/tmp/f; uwsgi_temp_path %[1]s/tmp/u; scgi_temp_path %[1]s/tmp/s;
	server { listen 127.0.0.1:%[4]d; root %[3]s; autoindex on; }
}
`
