package api

import (
	"context"
	"encoding/csv"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/landlord-go/landlord/router"
)

// task is a row of tasks, as it is told.
type task struct {
	ID        uuid.UUID `json:"id"`
	ProjectID uuid.UUID `json:"project_id"`
	Title     string    `json:"title"`
	Done      bool      `json:"done"`
	CreatedAt time.Time `json:"created_at"`
}

const taskColumns = "id, project_id, title, done, created_at"

// listTasks is a transaction: a project without tasks is told from one that is not there, as of one moment.
func (s *service) listTasks(w http.ResponseWriter, r *http.Request) error {
	id, err := pathID(r)
	if err != nil {
		return err
	}
	after, err := readAfter(r)
	if err != nil {
		return err
	}
	var found []task
	opts := router.TxOptions{ReadOnly: true, Isolation: pgx.RepeatableRead}
	err = s.router.FromContext(r.Context()).TxWith(r.Context(), opts, func(ctx context.Context, tx *router.Tx) error {
		var exists bool
		if err := tx.QueryRow(ctx, "select true from projects where id = $1", id).Scan(&exists); err != nil {
			return err
		}
		const q = `
select ` + taskColumns + ` from tasks t
 where project_id = $1 and ($2::uuid is null or (created_at, id) > (select created_at, id from tasks where id = $2))
 order by created_at, id limit $3`
		rows, err := tx.Query(ctx, q, id, after, pageSize)
		if err != nil {
			return err
		}
		found, err = pgx.CollectRows(rows, pgx.RowToStructByPos[task])
		return err
	})
	if err != nil {
		return err
	}
	answer(w, http.StatusOK, map[string]any{"tasks": found})
	return nil
}

// readAfter is the task after which a page begins; nil: the first page.
func readAfter(r *http.Request) (*uuid.UUID, error) {
	s := r.URL.Query().Get("after")
	if s == "" {
		return nil, nil
	}
	id, err := uuid.Parse(s)
	if err != nil {
		return nil, invalid("after is the id of a task")
	}
	return &id, nil
}

func (s *service) addTask(w http.ResponseWriter, r *http.Request) error {
	id, err := pathID(r)
	if err != nil {
		return err
	}
	var body struct {
		Title string `json:"title"`
	}
	if err := decode(w, r, &body); err != nil {
		return err
	}
	if err := checkText("title", body.Title); err != nil {
		return err
	}
	// The foreign key carries the tenant: another tenant's project is none.
	const q = "insert into tasks (project_id, title) values ($1, $2) returning " + taskColumns
	return s.answerTask(w, r, http.StatusCreated, q, id, body.Title)
}

func (s *service) showTask(w http.ResponseWriter, r *http.Request) error {
	id, err := pathID(r)
	if err != nil {
		return err
	}
	return s.answerTask(w, r, http.StatusOK, "select "+taskColumns+" from tasks where id = $1", id)
}

func (s *service) changeTask(w http.ResponseWriter, r *http.Request) error {
	id, err := pathID(r)
	if err != nil {
		return err
	}
	var body struct {
		Title *string `json:"title"`
		Done  *bool   `json:"done"`
	}
	if err := decode(w, r, &body); err != nil {
		return err
	}
	if body.Title != nil {
		if err := checkText("title", *body.Title); err != nil {
			return err
		}
	}
	const q = `
update tasks set title = coalesce($2, title), done = coalesce($3, done) where id = $1 returning ` + taskColumns
	return s.answerTask(w, r, http.StatusOK, q, id, body.Title, body.Done)
}

func (s *service) deleteTask(w http.ResponseWriter, r *http.Request) error {
	return s.remove(w, r, "delete from tasks where id = $1")
}

// answerTask answers with the one task that a statement returns; with none it is not found.
func (s *service) answerTask(w http.ResponseWriter, r *http.Request, status int, sql string, args ...any) error {
	rows, err := s.router.FromContext(r.Context()).Query(r.Context(), sql, args...)
	if err != nil {
		return err
	}
	t, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[task])
	if err != nil {
		return err
	}
	answer(w, status, t)
	return nil
}

// search finds tasks by a part of their title.
func (s *service) search(w http.ResponseWriter, r *http.Request) error {
	wanted := r.URL.Query().Get("q")
	if err := checkText("q", wanted); err != nil {
		return err
	}
	pattern := "%" + strings.NewReplacer(`\`, `\\`, "%", `\%`, "_", `\_`).Replace(wanted) + "%"
	const q = "select " + taskColumns + " from tasks where title ilike $1 order by created_at desc, id limit $2"
	rows, err := s.router.FromContext(r.Context()).Query(r.Context(), q, pattern, pageSize)
	if err != nil {
		return err
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[task])
	if err != nil {
		return err
	}
	answer(w, http.StatusOK, map[string]any{"tasks": found})
	return nil
}

// export tells everything that a tenant has, row by row as the server sends it. An answer that has begun cannot become an error
// any more: it is broken off, so that nobody takes a part for the whole.
func (s *service) export(w http.ResponseWriter, r *http.Request) error {
	const q = `
select p.id, p.name, t.id, t.title, t.done
  from projects p left join tasks t on t.project_id = p.id and t.tenant_id = p.tenant_id
 order by p.name, t.created_at, t.id`
	rows, err := s.router.FromContext(r.Context()).Query(r.Context(), q)
	if err != nil {
		return err
	}
	defer rows.Close()
	out := csv.NewWriter(w)
	begun := false
	begin := func() error {
		begun = true
		w.Header().Set("Content-Type", "text/csv; charset=utf-8")
		return out.Write([]string{"project_id", "project", "task_id", "task", "done"})
	}
	var projectID uuid.UUID
	var taskID *uuid.UUID
	var name string
	var title *string
	var done *bool
	_, err = pgx.ForEachRow(rows, []any{&projectID, &name, &taskID, &title, &done}, func() error {
		if !begun {
			if err := begin(); err != nil {
				return err
			}
		}
		line := []string{projectID.String(), name, "", "", ""}
		if taskID != nil {
			line = []string{projectID.String(), name, taskID.String(), *title, strconv.FormatBool(*done)}
		}
		return out.Write(line)
	})
	if err == nil && !begun {
		err = begin()
	}
	if err != nil && !begun {
		return err
	}
	out.Flush()
	if err != nil {
		s.log.ErrorContext(r.Context(), "export broken off", "error", err)
		panic(http.ErrAbortHandler)
	}
	return nil
}
