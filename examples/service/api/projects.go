package api

import (
	"net/http"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// project is a row of projects, as it is told.
type project struct {
	ID        uuid.UUID `json:"id"`
	Name      string    `json:"name"`
	CreatedAt time.Time `json:"created_at"`
}

const projectColumns = "id, name, created_at"

// pageSize is how much of a list is told at once. The next page begins after the last name, or the last task, of this one.
const pageSize = 100

func (s *service) listProjects(w http.ResponseWriter, r *http.Request) error {
	const q = "select " + projectColumns + " from projects where name > $1 order by name limit $2"
	rows, err := s.router.FromContext(r.Context()).Query(r.Context(), q, r.URL.Query().Get("after"), pageSize)
	if err != nil {
		return err
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[project])
	if err != nil {
		return err
	}
	answer(w, http.StatusOK, map[string]any{"projects": found})
	return nil
}

func (s *service) addProject(w http.ResponseWriter, r *http.Request) error {
	name, err := readName(w, r)
	if err != nil {
		return err
	}
	const q = "insert into projects (name) values ($1) returning " + projectColumns
	return s.answerProject(w, r, http.StatusCreated, q, name)
}

func (s *service) showProject(w http.ResponseWriter, r *http.Request) error {
	id, err := pathID(r)
	if err != nil {
		return err
	}
	return s.answerProject(w, r, http.StatusOK, "select "+projectColumns+" from projects where id = $1", id)
}

func (s *service) renameProject(w http.ResponseWriter, r *http.Request) error {
	id, err := pathID(r)
	if err != nil {
		return err
	}
	name, err := readName(w, r)
	if err != nil {
		return err
	}
	const q = "update projects set name = $2 where id = $1 returning " + projectColumns
	return s.answerProject(w, r, http.StatusOK, q, id, name)
}

func (s *service) deleteProject(w http.ResponseWriter, r *http.Request) error {
	return s.remove(w, r, "delete from projects where id = $1") // its tasks go with it
}

// answerProject answers with the one project that a statement returns; with none it is not found.
func (s *service) answerProject(w http.ResponseWriter, r *http.Request, status int, sql string, args ...any) error {
	rows, err := s.router.FromContext(r.Context()).Query(r.Context(), sql, args...)
	if err != nil {
		return err
	}
	p, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[project])
	if err != nil {
		return err
	}
	answer(w, status, p)
	return nil
}

// remove runs a statement that deletes by the id of the path.
func (s *service) remove(w http.ResponseWriter, r *http.Request, sql string) error {
	id, err := pathID(r)
	if err != nil {
		return err
	}
	tag, err := s.router.FromContext(r.Context()).Exec(r.Context(), sql, id)
	if err != nil {
		return err
	}
	if tag.RowsAffected() == 0 {
		return errNotFound
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func readName(w http.ResponseWriter, r *http.Request) (string, error) {
	var body struct {
		Name string `json:"name"`
	}
	if err := decode(w, r, &body); err != nil {
		return "", err
	}
	return body.Name, checkText("name", body.Name)
}

// checkText refuses what a column of text does not take, or what nobody would read.
func checkText(what, s string) error {
	const longest = 500
	for _, c := range s {
		if c == 0 {
			return invalid(what + " may not contain a zero character")
		}
	}
	if s == "" || len(s) > longest {
		return invalid(what + " has 1 to 500 bytes")
	}
	return nil
}
