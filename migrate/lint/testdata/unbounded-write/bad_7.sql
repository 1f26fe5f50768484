-- +goose Up
merge into orders o using tiny t on t.id = o.id when matched then delete;
