package leaktest_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/examples/service/api"
	"github.com/landlord-go/landlord/examples/service/migrations"
	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/leaktest"
	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/router"
	"github.com/landlord-go/landlord/tenant"
)

// shop is the example service with two tenants, which have a project and a task each.
type shop struct {
	*testhouse.House
	router  *router.Router
	handler http.Handler
	written *buffer
	slugs   map[tenant.ID]string
	made    map[tenant.ID]map[string]string // the path under which it was made: its id
	pairs   []leaktest.Pair
}

// buffer is what a service has logged.
type buffer struct {
	sync.Mutex
	bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.Lock()
	defer b.Unlock()
	return b.Buffer.Write(p)
}

func (b *buffer) String() string {
	b.Lock()
	defer b.Unlock()
	return b.Buffer.String()
}

func newShop(t *testing.T, mode isolation.Mode, models ...placement.Model) *shop {
	t.Helper()
	s := &shop{
		House:   testhouse.New(t, testhouse.Options{Clusters: []string{"a"}, Migrations: migrations.Files, Mode: mode}),
		written: &buffer{}, slugs: map[tenant.ID]string{}, made: map[tenant.ID]map[string]string{},
	}
	s.router = s.Router(t)
	var err error
	s.handler, err = api.New(api.Config{
		Router: s.router, Tenants: s.Catalog, Domain: "example.com", Logger: slog.New(slog.NewTextHandler(s.written, nil)),
	})
	require.NoError(t, err)
	for _, m := range models {
		pair := leaktest.Pair{Name: string(m), A: s.settle(t, string(m)+"-a", m), B: s.settle(t, string(m)+"-b", m)}
		s.pairs = append(s.pairs, pair)
	}
	return s
}

// settle brings in a tenant that has something of everything.
func (s *shop) settle(t *testing.T, slug string, model placement.Model) tenant.ID {
	t.Helper()
	id := s.Add(t, slug, model, "a").Tenant
	s.slugs[id], s.made[id] = slug, map[string]string{}
	project := s.post(t, id, "/projects", fmt.Sprintf(`{"name": "of %s"}`, slug))
	s.made[id]["project"] = project
	s.made[id]["task"] = s.post(t, id, "/projects/"+project+"/tasks", fmt.Sprintf(`{"title": "task of %s"}`, slug))
	return id
}

func (s *shop) request(as tenant.ID, method, path, body string) *http.Request {
	return httptest.NewRequest(method, "http://"+s.slugs[as]+".example.com"+path, strings.NewReader(body)) //nolint:noctx // leaktest gives it its context
}

func (s *shop) post(t *testing.T, as tenant.ID, path, body string) string {
	t.Helper()
	w := httptest.NewRecorder()
	s.handler.ServeHTTP(w, s.request(as, "POST", path, body).WithContext(t.Context()))
	require.Equal(t, http.StatusCreated, w.Code, w.Body.String())
	var made struct{ ID string }
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &made))
	return made.ID
}

func (s *shop) config() leaktest.Config {
	id := func(kind string) func(tenant.ID) string {
		return func(of tenant.ID) string { return s.made[of][kind] }
	}
	return leaktest.Config{
		Pairs:   s.pairs,
		Written: s.written.String,
		API: &leaktest.API{
			Handler: s.handler,
			Request: s.request,
			Objects: []leaktest.Object{
				{Name: "project", ID: id("project"), Unknown: uuid.NewString, Calls: []leaktest.Call{
					{Method: "GET", Path: "/projects/{id}"},
					{Method: "PATCH", Path: "/projects/{id}", Body: `{"name": "stolen"}`},
					{Method: "GET", Path: "/projects/{id}/tasks"},
					{Method: "POST", Path: "/projects/{id}/tasks", Body: `{"title": "foisted"}`},
					{Method: "DELETE", Path: "/projects/{id}"},
				}},
				{Name: "task", ID: id("task"), Unknown: uuid.NewString, Calls: []leaktest.Call{
					{Method: "GET", Path: "/tasks/{id}"},
					{Method: "PATCH", Path: "/tasks/{id}", Body: `{"done": true}`},
					{Method: "DELETE", Path: "/tasks/{id}"},
				}},
			},
			Lists: []leaktest.Call{
				{Method: "GET", Path: "/projects"},
				{Method: "GET", Path: "/search?q=task"},
				{Method: "GET", Path: "/export.csv"},
			},
		},
	}
}

func TestTheExampleServiceLeaksNothing(t *testing.T) {
	t.Parallel()
	for _, mode := range []isolation.Mode{isolation.Sealed, isolation.SealedMAC, isolation.Locked, isolation.Plain} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			s := newShop(t, mode, placement.ModelShared, placement.ModelSchema, placement.ModelDatabase)
			cfg := s.config()
			cfg.Plain = mode == isolation.Plain
			leaktest.Run(t, s.router, cfg)
		})
	}
}

// plants are faults, each of which Run must find. sql is run in the shared database, or change is done to the configuration.
var plants = []struct {
	name, sql string
	change    func(*shop, *leaktest.Config)
	want      string
	mode      isolation.Mode // empty: sealed
}{
	{name: "row-level security off", sql: `alter table projects disable row level security`, want: "row-level security is not enabled and forced"},
	{name: "row-level security not forced", sql: `alter table projects no force row level security`, want: "row-level security is not enabled and forced"},
	{name: "policies open", sql: `drop policy landlord_fence on tasks; create policy open on tasks using (true) with check (true)`, want: "reads a row of tenant"},
	{name: "writes unchecked", sql: `drop policy landlord_fence on tasks; create policy own on tasks as restrictive for select using (tenant_id = (select landlord.tenant()::uuid)); create policy open on tasks for insert with check (true)`, want: "may write rows of tenant"},
	{name: "truncate", sql: `grant truncate on tasks to landlord_app`, want: "public.tasks that no policy guards: TRUNCATE"},
	{name: "trigger", sql: `grant trigger on tasks to landlord_app`, want: "public.tasks that no policy guards: TRIGGER"},
	{name: "create in the schema", sql: `grant create on schema public to landlord_app`, want: "no policy guards: CREATE in its schema"},
	{name: "view that runs as its owner", sql: `create view every_task as select * from tasks; grant select on every_task to landlord_app`, want: "public.every_task shows tenant"},
	{name: "materialised view", sql: `create materialized view counted as select tenant_id, count(*) from tasks group by 1; grant select on counted to landlord_app`, want: "is a materialised view"},
	{name: "partition", sql: `create table logs (tenant_id uuid, id uuid, primary key (tenant_id, id)) partition by hash (tenant_id); create table logs_0 partition of logs for values with (modulus 1, remainder 0); grant select on logs_0 to landlord_app`, want: "public.logs_0 is a partition"},
	{name: "table without rows", sql: `create table fresh (tenant_id uuid, id uuid, primary key (tenant_id, id)); call landlord.secure('public')`, want: "public.fresh has no rows of tenant"},
	{name: "table without a class", sql: `create table odd (id int); grant select on odd to landlord_app`, want: "public.odd is not classified"},
	{name: "sequence", sql: `create sequence numbers; grant select on numbers to landlord_app`, want: "public.numbers is a sequence"},
	{name: "unique over all tenants", sql: `create unique index one_title on tasks (title)`, want: "is unique over all tenants by one_title"},
	{name: "link to anybody's rows", sql: `create unique index project_id on projects (id); alter table tasks add constraint loose foreign key (project_id) references projects (id)`, want: "loose leaves tenant_id out"},
	{name: "mode plain", mode: isolation.Plain, want: "after select set_config('landlord.tenant'"},
	{name: "foreign id told from an unknown one", want: "status 403, not 404", change: func(s *shop, cfg *leaktest.Config) {
		inner := cfg.API.Handler
		all := s.made
		cfg.API.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			rec := httptest.NewRecorder()
			inner.ServeHTTP(rec, r)
			status := rec.Code
			for _, made := range all {
				if status == http.StatusNotFound && strings.Contains(r.URL.Path, made["project"]) {
					status = http.StatusForbidden
				}
			}
			w.WriteHeader(status)
			_, _ = w.Write(rec.Body.Bytes())
		})
	}},
	{name: "another body for a foreign id", want: "tells another tenant's project from one that never was", change: func(s *shop, cfg *leaktest.Config) {
		inner := cfg.API.Handler
		all := s.made
		cfg.API.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			inner.ServeHTTP(w, r)
			for _, made := range all {
				if r.Method == http.MethodDelete && strings.Contains(r.URL.Path, made["project"]) {
					_, _ = w.Write([]byte("not yours"))
				}
			}
		})
	}},
	{name: "list of everybody's", want: "GET /projects shows tenant", change: func(s *shop, cfg *leaktest.Config) {
		inner := cfg.API.Handler
		cache := ""
		cfg.API.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/projects" {
				inner.ServeHTTP(w, r)
				return
			}
			if cache == "" { // a key without the tenant
				rec := httptest.NewRecorder()
				inner.ServeHTTP(rec, r)
				cache = rec.Body.String()
			}
			_, _ = w.Write([]byte(cache))
		})
	}},
	{name: "log that names another", want: "logs, metrics or spans of tenant", change: func(s *shop, cfg *leaktest.Config) {
		inner := cfg.API.Handler
		cfg.API.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			inner.ServeHTTP(w, r)
			for id := range s.slugs {
				fmt.Fprintln(s.written, "tenants that I know:", id)
			}
		})
	}},
	{name: "list that shows nobody anything", want: "so that nothing is proved", change: func(_ *shop, cfg *leaktest.Config) {
		cfg.API.Lists = append(cfg.API.Lists, leaktest.Call{Method: "GET", Path: "/livez"})
	}},
}

const planting = "LEAKTEST_PLANT"

// TestPlanted is run by the next one, in a process of its own: it fails in each of its subtests.
func TestPlanted(t *testing.T) {
	t.Parallel()
	if os.Getenv(planting) == "" {
		t.Skip("it is run by TestEveryPlantedFaultIsFound")
	}
	for _, p := range plants {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			s := newShop(t, cmp.Or(p.mode, isolation.Sealed), placement.ModelShared)
			cfg := s.config()
			if p.sql != "" {
				c, err := s.Catalog.Cluster(t.Context(), "a")
				require.NoError(t, err)
				s.SuperExec(t, c.SharedDatabase, p.sql)
			}
			if p.change != nil {
				p.change(s, &cfg)
			}
			leaktest.Run(t, s.router, cfg)
		})
	}
}

func TestEveryPlantedFaultIsFound(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), self, "-test.run=^TestPlanted$")
	cmd.Env = append(os.Environ(), planting+"=1")
	out, err := cmd.CombinedOutput()
	require.Error(t, err, "%s", out)
	const begin = "\n    --- FAIL: TestPlanted/"
	said := map[string]string{}
	for _, part := range strings.Split(string(out), begin)[1:] {
		name, text, _ := strings.Cut(part, " ")
		said[name] = text
	}
	for _, p := range plants {
		require.Contains(t, said[strings.ReplaceAll(p.name, " ", "_")], p.want, p.name)
	}
}

func TestRunRefusesToProveNothing(t *testing.T) {
	t.Parallel()
	if os.Getenv(planting) == "empty" {
		leaktest.Run(t, nil, leaktest.Config{})
		return
	}
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), self, "-test.run=^TestRunRefusesToProveNothing$")
	cmd.Env = append(os.Environ(), planting+"=empty")
	out, err := cmd.CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(out), "Pairs is empty")
}
