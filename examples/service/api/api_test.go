package api_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/examples/service/api"
	"github.com/landlord-go/landlord/examples/service/migrations"
	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/placement"
)

// site is the service with two tenants in each model: "shared-1", "shared-2", and so on.
type site struct {
	*testhouse.House
	handler http.Handler
}

func newSite(t *testing.T, change ...func(*api.Config)) site {
	t.Helper()
	s := site{House: testhouse.New(t, testhouse.Options{Clusters: []string{"a"}, Migrations: migrations.Files})}
	cfg := api.Config{Router: s.Router(t), Tenants: s.Catalog, Domain: "example.com"}
	for _, c := range change {
		c(&cfg)
	}
	var err error
	s.handler, err = api.New(cfg)
	require.NoError(t, err)
	return s
}

var models = []placement.Model{placement.ModelShared, placement.ModelSchema, placement.ModelDatabase}

func (s site) ask(t *testing.T, slug, method, path, body string) (status int, answer string) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, "http://"+slug+".example.com:8080"+path, strings.NewReader(body))
	w := httptest.NewRecorder()
	s.handler.ServeHTTP(w, r)
	all, err := io.ReadAll(w.Result().Body)
	require.NoError(t, err)
	return w.Code, string(all)
}

// add creates what body describes and returns its id.
func (s site) add(t *testing.T, slug, path, body string) string {
	t.Helper()
	status, answer := s.ask(t, slug, "POST", path, body)
	require.Equal(t, http.StatusCreated, status, answer)
	var made struct{ ID string }
	require.NoError(t, json.Unmarshal([]byte(answer), &made))
	return made.ID
}

func TestEachTenantWorksWithItsOwnAndCannotReachAnothers(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for _, model := range models {
		t.Run(string(model), func(t *testing.T) {
			t.Parallel()
			one, two := string(model)+"-1", string(model)+"-2"
			s.Add(t, one, model, "a")
			s.Add(t, two, model, "a")
			project := s.add(t, one, "/projects", `{"name": "Canary"}`)
			task := s.add(t, one, "/projects/"+project+"/tasks", `{"title": "canary 50%"}`)
			s.add(t, two, "/projects", `{"name": "Canary"}`) // a name is taken within a tenant only

			for _, c := range []struct{ method, path, body, want string }{
				{"GET", "/projects", "", "Canary"},
				{"GET", "/projects/" + project, "", project},
				{"PATCH", "/projects/" + project, `{"name": "Canary"}`, project},
				{"GET", "/projects/" + project + "/tasks", "", task},
				{"PATCH", "/tasks/" + task, `{"done": true}`, `"done":true`},
				{"GET", "/search?q=50%25", "", task},
				{"GET", "/export.csv", "", "canary 50%,true"},
			} {
				status, answer := s.ask(t, one, c.method, c.path, c.body)
				require.Equal(t, http.StatusOK, status, "%s %s: %s", c.method, c.path, answer)
				require.Contains(t, answer, c.want)
				_, other := s.ask(t, two, c.method, c.path, c.body)
				require.NotContains(t, other, task)
				require.NotContains(t, other, project)
				require.NotContains(t, other, "50%")
			}
			status, answer := s.ask(t, one, "POST", "/projects", `{"name": "Canary"}`)
			require.Equal(t, http.StatusConflict, status, answer)

			// What is another's is answered like what never was.
			for _, c := range []struct{ method, path, body string }{
				{"GET", "/projects/ID", ""},
				{"PATCH", "/projects/ID", `{"name": "taken"}`},
				{"DELETE", "/projects/ID", ""},
				{"GET", "/projects/ID/tasks", ""},
				{"POST", "/projects/ID/tasks", `{"title": "foisted"}`},
				{"PATCH", "/tasks/ID", `{"done": false}`},
				{"DELETE", "/tasks/ID", ""},
			} {
				foreign := project
				if strings.HasPrefix(c.path, "/tasks") {
					foreign = task
				}
				status, answer := s.ask(t, two, c.method, strings.Replace(c.path, "ID", foreign, 1), c.body)
				require.Equal(t, http.StatusNotFound, status, "%s %s", c.method, c.path)
				for _, never := range []string{uuid.NewString(), "none"} {
					sameStatus, same := s.ask(t, two, c.method, strings.Replace(c.path, "ID", never, 1), c.body)
					require.Equal(t, status, sameStatus)
					require.Equal(t, answer, same)
				}
			}
			status, _ = s.ask(t, one, "GET", "/projects/"+project+"/tasks", "")
			require.Equal(t, http.StatusOK, status, "and it is there still")

			status, _ = s.ask(t, one, "DELETE", "/tasks/"+task, "")
			require.Equal(t, http.StatusNoContent, status)
			status, _ = s.ask(t, one, "DELETE", "/projects/"+project, "")
			require.Equal(t, http.StatusNoContent, status)
			status, _ = s.ask(t, one, "GET", "/projects/"+project, "")
			require.Equal(t, http.StatusNotFound, status)
		})
	}
}

func TestPagesFollowOneAnother(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.Add(t, "acme", placement.ModelShared, "a")
	project := s.add(t, "acme", "/projects", `{"name": "Long"}`)
	const tasks = 101
	for range tasks {
		s.add(t, "acme", "/projects/"+project+"/tasks", `{"title": "one of many"}`)
	}
	seen, after := map[string]bool{}, ""
	for {
		status, answer := s.ask(t, "acme", "GET", "/projects/"+project+"/tasks?after="+after, "")
		require.Equal(t, http.StatusOK, status, answer)
		var page struct{ Tasks []struct{ ID string } }
		require.NoError(t, json.Unmarshal([]byte(answer), &page))
		if len(page.Tasks) == 0 {
			break
		}
		for _, one := range page.Tasks {
			require.False(t, seen[one.ID])
			seen[one.ID] = true
			after = one.ID
		}
	}
	require.Len(t, seen, tasks)
}

func TestARequestWithoutAKnownTenantGetsTheSame404(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.Add(t, "acme", placement.ModelShared, "a")
	known, want := s.ask(t, "acme", "GET", "/nothing", "")
	require.Equal(t, http.StatusNotFound, known)
	for _, slug := range []string{"nobody", "a.b", "-", "ACME.evil", strings.Repeat("a", 64)} {
		status, answer := s.ask(t, slug, "GET", "/projects", "")
		require.Equal(t, http.StatusNotFound, status, slug)
		require.Equal(t, want, answer, slug)
	}
	status, _ := s.ask(t, "ACME", "GET", "/projects", "")
	require.Equal(t, http.StatusOK, status, "names of hosts know no case")
}

func TestTheHeaderCountsOnlyWhereItIsAskedFor(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.Add(t, "acme", placement.ModelShared, "a")
	s.Add(t, "bigco", placement.ModelSchema, "a")
	s.add(t, "acme", "/projects", `{"name": "of acme"}`)
	s.add(t, "bigco", "/projects", `{"name": "of bigco"}`)
	behindGateway, err := api.New(api.Config{Router: s.Router(t), Tenants: s.Catalog, Domain: "example.com", Header: "X-Tenant"})
	require.NoError(t, err)
	for handler, want := range map[http.Handler]string{s.handler: "of acme", behindGateway: "of bigco"} {
		r := httptest.NewRequestWithContext(t.Context(), "GET", "http://acme.example.com/projects", nil)
		r.Header.Set("X-Tenant", "bigco")
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		require.Equal(t, http.StatusOK, w.Code)
		require.Contains(t, w.Body.String(), want)
	}
}

func TestASuspendedTenantIsTold(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.Add(t, "acme", placement.ModelShared, "a")
	acme, err := s.Catalog.Tenant(t.Context(), p.Tenant)
	require.NoError(t, err)
	require.NoError(t, s.Service.Suspend(t.Context(), acme))
	status, answer := s.ask(t, "acme", "GET", "/projects", "")
	require.Equal(t, http.StatusForbidden, status)
	require.JSONEq(t, `{"error": "suspended"}`, answer)
}

func TestBadInputIsRefusedWithAReason(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.Add(t, "acme", placement.ModelShared, "a")
	project := s.add(t, "acme", "/projects", `{"name": "Real"}`)
	for _, c := range []struct{ method, path, body string }{
		{"POST", "/projects", ``},
		{"POST", "/projects", `{"name": ""}`},
		{"POST", "/projects", `{"name": "a\u0000b"}`},
		{"POST", "/projects", `{"name": "x", "tenant_id": "` + uuid.NewString() + `"}`},
		{"POST", "/projects", `{"name": "` + strings.Repeat("x", 501) + `"}`},
		{"POST", "/projects", strings.Repeat(" ", 65<<10) + `{"name": "x"}`},
		{"POST", "/projects/" + project + "/tasks", `{"title": 5}`},
		{"GET", "/projects/" + project + "/tasks?after=x", ``},
		{"GET", "/search", ``},
	} {
		status, answer := s.ask(t, "acme", c.method, c.path, c.body)
		require.Equal(t, http.StatusUnprocessableEntity, status, "%s %s %.60s", c.method, c.path, c.body)
		require.Contains(t, answer, "error")
	}
}
