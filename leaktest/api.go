package leaktest

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/landlord-go/landlord/tenant"
)

// reply is what is compared of an answer.
type reply struct {
	Status      int
	Body        string
	ContentType string
}

func (tr *trial) ask(t *testing.T, as tenant.ID, c Call, id string) reply {
	t.Helper()
	a := tr.cfg.API
	r := a.Request(as, c.Method, strings.ReplaceAll(c.Path, "{id}", id), strings.ReplaceAll(c.Body, "{id}", id))
	w := httptest.NewRecorder()
	a.Handler.ServeHTTP(w, r.WithContext(t.Context()))
	body, err := io.ReadAll(w.Result().Body)
	if err != nil {
		t.Fatal(err)
	}
	return reply{w.Code, string(body), w.Header().Get("Content-Type")}
}

// api asks as the thief for what is the victim's: by its id, and in whatever shows many things at once.
func (tr *trial) api(t *testing.T) {
	thief, victim := tr.thief.Tenant(), tr.victim.Tenant()
	canaries := []string{victim.String()}
	before := make([]reply, len(tr.cfg.API.Objects))
	for i, o := range tr.cfg.API.Objects {
		id := o.ID(victim)
		canaries = append(canaries, id)
		if before[i] = tr.ask(t, victim, o.Calls[0], id); before[i].Status != http.StatusOK {
			t.Errorf("tenant %s does not get its own %s, so that nothing is proved: %d %s", victim, o.Name, before[i].Status, before[i].Body)
		}
	}
	for _, o := range tr.cfg.API.Objects {
		id, unknown := o.ID(victim), o.Unknown()
		for _, c := range o.Calls {
			got, want := tr.ask(t, thief, c, id), tr.ask(t, thief, c, unknown)
			// An answer that repeats what was asked for repeats the id, and nothing else.
			got.Body, want.Body = strings.ReplaceAll(got.Body, id, "{id}"), strings.ReplaceAll(want.Body, unknown, "{id}")
			switch {
			case got.Status != http.StatusNotFound:
				t.Errorf("%s %s of tenant %s's %s, asked for by tenant %s: status %d, not 404", c.Method, c.Path, victim, o.Name, thief, got.Status)
			case got != want:
				t.Errorf("%s %s tells another tenant's %s from one that never was: %+v, %+v", c.Method, c.Path, o.Name, got, want)
			}
		}
	}
	for _, c := range tr.cfg.API.Lists {
		if own := tr.ask(t, victim, c, ""); !containsAny(own.Body, canaries[1:]) {
			t.Errorf("%s %s shows tenant %s nothing of its own that is known here, so that nothing is proved: %d %.200s", c.Method, c.Path, victim, own.Status, own.Body)
		}
		if got := tr.ask(t, thief, c, ""); containsAny(got.Body, canaries) {
			t.Errorf("%s %s shows tenant %s what is tenant %s's: %.200s", c.Method, c.Path, thief, victim, got.Body)
		}
	}
	if tr.cfg.Written != nil {
		before := tr.cfg.Written() // the thief alone is at work from here on
		for _, c := range tr.cfg.API.Lists {
			tr.ask(t, thief, c, "")
		}
		for _, o := range tr.cfg.API.Objects {
			tr.ask(t, thief, o.Calls[0], o.Unknown())
		}
		added := strings.TrimPrefix(tr.cfg.Written(), before)
		if containsAny(added, canaries) {
			t.Errorf("logs, metrics or spans of tenant %s alone name tenant %s or what it has", thief, victim)
		}
	}
	for i, o := range tr.cfg.API.Objects {
		if after := tr.ask(t, victim, o.Calls[0], o.ID(victim)); after != before[i] {
			t.Errorf("tenant %s's %s has changed by what tenant %s asked for: %+v, was %+v", victim, o.Name, thief, after, before[i])
		}
	}
}

func containsAny(s string, canaries []string) bool {
	for _, c := range canaries {
		if strings.Contains(s, c) {
			return true
		}
	}
	return false
}
