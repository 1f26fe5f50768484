-- +goose Up
select set_config('search_path', 'app', true);
